//! A file in memory, mapped.
#![allow(unsafe_code, reason = "reads and writes the mapping by address; see DESIGN.md")]

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use memmap2::{Advice, MmapOptions, MmapRaw};
use offset_allocator::{Allocation, Allocator};
use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create, sendfile,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tokio::net::TcpStream;

use super::LEAST;

/// Addresses for each byte that may be stored: what readers still hold, and the gaps between ranges, need some too.
const REGION: u64 = 2;

/// At most so much by one call: a fast client must not keep its thread from all others.
const MOST: usize = 1 << 20;

/// Bodies in a file in memory.
pub struct Arena {
    file: OwnedFd,
    map: MmapRaw,
    page: usize,
    free: Mutex<Allocator>,
}

impl fmt::Debug for Arena {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Arena").field("length", &self.map.len()).finish_non_exhaustive()
    }
}

impl Arena {
    /// An empty one for so many bytes; takes addresses, and no memory.
    ///
    /// # Errors
    /// The system has no such files, or not enough addresses.
    pub fn new(capacity: u64) -> io::Result<Arc<Self>> {
        let page = rustix::param::page_size();
        let pages = capacity.saturating_mul(REGION).div_ceil(page as u64);
        let pages = u32::try_from(pages).unwrap_or(u32::MAX / 2);
        let length = pages as usize * page;
        let fsize = rustix::process::getrlimit(rustix::process::Resource::Fsize);
        if fsize.current.is_some_and(|most| most < length as u64) {
            return Err(io::Error::other("files may not be that large (ulimit -f)"));
        }
        let file = memfd_create("everfresh-bodies", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, length as u64)?;
        // A page that is gone under the mapping would end the process.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let map = MmapOptions::new().len(length).no_reserve_swap().map_raw(&file)?;
        map.advise(Advice::NoHugePage)?;
        // Whether this kernel can be asked for pages, and take them back.
        map.advise_range(Advice::PopulateWrite, 0, page)?;
        punch(&file, 0, page)?;
        // At the least, each other range is a gap.
        let most = (length / LEAST).saturating_mul(2).clamp(16, 1 << 22);
        let free = Mutex::new(Allocator::with_max_allocs(pages, most as u32));
        Ok(Arc::new(Self { file, map, page, free }))
    }

    /// The bytes one after the other, copied to where they can be sent from; `None` if there is no room.
    pub fn keep(self: &Arc<Self>, chunks: &[Bytes]) -> Option<Bytes> {
        let length: usize = chunks.iter().map(Bytes::len).sum();
        let pages = length.div_ceil(self.page);
        let taken = self.lock().allocate(u32::try_from(pages).ok()?)?;
        let at = taken.offset as usize * self.page;
        let body = Body { arena: Arc::clone(self), taken, at, length, pages };
        // All pages at once, and an error here where there is no memory, instead of a signal below.
        self.map.advise_range(Advice::PopulateWrite, at, pages * self.page).ok()?;
        let mut to = at;
        for chunk in chunks {
            debug_assert!(to + chunk.len() <= at + pages * self.page && at + pages * self.page <= self.map.len());
            // SAFETY: within the mapping, which is longer than any range given out; nobody else reads or writes this range,
            // which is `body`'s alone, and `body` has not been handed out.
            unsafe { std::ptr::copy_nonoverlapping(chunk.as_ptr(), self.map.as_mut_ptr().add(to), chunk.len()) };
            to += chunk.len();
        }
        Some(Bytes::from_owner(body))
    }

    /// The bytes of memory that a body of so many takes here.
    pub fn room(&self, length: usize) -> u64 {
        length.next_multiple_of(self.page) as u64
    }

    /// The bytes of memory that are taken here.
    pub fn used(&self) -> u64 {
        let free = self.lock().storage_report().total_free_space;
        (self.map.len() - free as usize * self.page) as u64
    }

    fn lock(&self) -> MutexGuard<'_, Allocator> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what stands before a body, and as much of the body as the socket takes at once; how many bytes that were.
    /// `None` if nothing was sent and nothing can be sent in this way.
    ///
    /// # Errors
    /// The socket takes nothing now, or is broken.
    pub fn send(
        &self,
        to: &TcpStream,
        before: &[IoSlice<'_>],
        offset: u64,
        length: usize,
    ) -> io::Result<Option<usize>> {
        let ahead: usize = before.iter().map(|piece| piece.len()).sum();
        if ahead > 0 {
            // More: the head goes in one packet with the beginning of the body.
            let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
            let sent = retry_on_intr(|| sendmsg(to, before, &mut SendAncillaryBuffer::default(), flags))?;
            if sent < ahead {
                return Ok(Some(sent));
            }
        }
        let mut from = offset;
        match retry_on_intr(|| sendfile(to, &self.file, Some(&mut from), length.min(MOST))) {
            Ok(sent) if sent > 0 => Ok(Some(ahead + sent)),
            _ if ahead > 0 => Ok(Some(ahead)),
            Err(Errno::AGAIN) => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(None),
        }
    }

    /// Where in the file these bytes stand, if they are of a body that is kept here.
    pub fn offset_of(&self, bytes: &[u8]) -> Option<u64> {
        let at = (bytes.as_ptr() as usize).checked_sub(self.map.as_ptr() as usize)?;
        (at < self.map.len()).then_some(at as u64)
    }
}

fn punch(file: &OwnedFd, at: usize, length: usize) -> io::Result<()> {
    let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(retry_on_intr(|| fallocate(file, how, at as u64, length as u64))?)
}

/// A range of the mapping that belongs to one body.
struct Body {
    arena: Arc<Arena>,
    taken: Allocation,
    at: usize,
    length: usize,
    pages: usize,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: within the mapping, which lives as long as `arena`, and filled: a body is handed out once it has been
        // written. Nobody writes there until it is dropped: the range is its alone, and the file is known to nobody else.
        unsafe { std::slice::from_raw_parts(self.arena.map.as_ptr().add(self.at), self.length) }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        match punch(&self.arena.file, self.at, self.pages * self.arena.page) {
            Ok(()) => self.arena.lock().free(self.taken),
            // Packets may hold these pages: whoever wrote there next would write into them.
            Err(error) => tracing::warn!("memory of a body cannot be given back: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::{Arena, LEAST};

    fn resident(arena: &Arena) -> u64 {
        rustix::fs::fstat(&arena.file).expect("told").st_blocks as u64 * 512
    }

    #[test]
    fn a_body_is_one_piece_and_takes_its_pages_until_nobody_holds_it() {
        let arena = Arena::new(1 << 20).expect("an arena");
        let body = arena.keep(&[Bytes::from(vec![1; LEAST]), Bytes::from(vec![2; 1])]).expect("room");
        assert_eq!((body.len(), body[LEAST - 1], body[LEAST]), (LEAST + 1, 1, 2));
        assert_eq!((arena.used(), resident(&arena)), (arena.room(body.len()), arena.room(body.len())));
        let part = body.slice(10..20);
        drop(body);
        assert_eq!(part, [1; 10].as_slice());
        assert_eq!(arena.offset_of(&part), Some(10));
        drop(part);
        assert_eq!((arena.used(), resident(&arena)), (0, 0));
    }

    #[test]
    fn a_full_arena_takes_no_more_and_bodies_never_overlap() {
        let arena = Arena::new(1 << 20).expect("an arena");
        let mut kept: Vec<(u8, Bytes)> = Vec::new();
        for number in 0..=255 {
            let length = LEAST + usize::from(number) * 100;
            kept.extend(arena.keep(&[Bytes::from(vec![number; length])]).map(|body| (number, body)));
            if number % 3 == 0 && !kept.is_empty() {
                kept.remove(usize::from(number) % kept.len());
            }
            assert!(arena.used() <= 2 << 20);
            assert_eq!(resident(&arena), arena.used());
        }
        assert!(arena.keep(&[Bytes::from(vec![0; 2 << 20])]).is_none(), "full");
        assert!(kept.len() > 10);
        assert!(kept.iter().all(|(number, body)| body.iter().all(|byte| byte == number)));
    }

    #[test]
    fn only_what_is_kept_here_has_a_place() {
        let arena = Arena::new(1 << 20).expect("an arena");
        let kept = arena.keep(&[Bytes::from(vec![1; LEAST])]).expect("room");
        assert_eq!(arena.offset_of(&kept), Some(0));
        assert_eq!(arena.offset_of(&[1; 10]), None);
        assert_eq!(Arc::strong_count(&arena), 2, "a body keeps its arena");
    }
}
