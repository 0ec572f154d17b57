//! Memory for the tables and entries of one store: of a large one, in large pages.
//!
//! A read of a large cache goes to three or four places that nobody has looked at lately. With pages of 4 KiB the processor
//! has to find out first where each of them is, which takes as long as the read, and longer on a virtual machine. So a store
//! that has grown beyond [`SMALL`] takes its memory in pieces of [`PAGE`], and asks the system to make each one page. What
//! it does not grant changes nothing but the time.
#![allow(unsafe_code, reason = "hands out parts of a piece of memory, and asks the system for large pages")]

use std::alloc::{Layout, LayoutError, alloc, dealloc, handle_alloc_error};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use crate::sync::{Mutex, lock};

/// The size of a large page, in bytes.
const PAGE: usize = 2 << 20;
/// Until it has asked for so many bytes, each plot of a store is an allocation of its own.
const SMALL: usize = 1 << 20;
/// What is left of a page is forgotten when it is smaller.
const CRUMB: usize = 4 << 10;

/// What is no smaller begins at such an address: at the beginning of a line of the processor's cache.
pub(super) const LINE: usize = 64;

/// Where the plots of one store come from.
pub(super) struct Ground(Mutex<Land>);

struct Land {
    asked: usize,
    /// What it is expected to grow to, if that is known.
    expected: usize,
    /// The bytes of all pieces.
    held: usize,
    /// All that was taken from the allocator, to be returned at the end.
    pieces: Vec<(NonNull<u8>, Layout)>,
    /// Parts of the pieces that are nobody's, by address and length.
    free: Vec<(NonNull<u8>, usize)>,
}

// SAFETY: it owns what the pointers name, and nobody follows them but through plots.
unsafe impl Send for Land {}

impl Ground {
    /// The ground of a store that is going to need so many bytes, or more. What goes beyond the last whole page of them is not
    /// made one page, for most of that would be taken for nothing.
    pub(super) fn for_bytes(expected: usize) -> Arc<Ground> {
        let land = Land { asked: 0, expected, held: 0, pieces: Vec::new(), free: Vec::new() };
        Arc::new(Ground(Mutex::new(land)))
    }

    /// The ground of a store of unknown size.
    pub(super) fn new() -> Arc<Ground> {
        Ground::for_bytes(usize::MAX)
    }

    /// Part of a large page; `None` while the store is small, or where there are no large pages.
    fn take(&self, layout: Layout) -> Option<NonNull<u8>> {
        let mut land = lock(&self.0);
        land.asked = land.asked.saturating_add(layout.size());
        if !large_pages::EXIST || land.asked < SMALL || layout.align() > PAGE {
            return None;
        }
        land.part(layout).or_else(|| {
            land.add_piece(layout.size())?;
            land.part(layout)
        })
    }

    fn give_back(&self, start: NonNull<u8>, len: usize) {
        lock(&self.0).put(start, len);
    }
}

impl Land {
    fn part(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        for index in (0..self.free.len()).rev() {
            let (start, len) = self.free[index];
            let skipped = start.addr().get().next_multiple_of(layout.align()) - start.addr().get();
            let Some(rest) = len.checked_sub(skipped).and_then(|len| len.checked_sub(layout.size())) else { continue };
            self.free.swap_remove(index);
            // SAFETY: within the part, as `rest` tells.
            let (part, end) = unsafe { (start.add(skipped), start.add(skipped + layout.size())) };
            self.put(end, rest);
            return Some(part);
        }
        None
    }

    fn put(&mut self, start: NonNull<u8>, len: usize) {
        if len >= CRUMB {
            self.free.push((start, len));
        }
    }

    fn add_piece(&mut self, least: usize) -> Option<()> {
        let layout = Layout::from_size_align(least.checked_next_multiple_of(PAGE)?, PAGE).ok()?;
        // SAFETY: its size is not zero, for nobody asks for nothing.
        let piece = NonNull::new(unsafe { alloc(layout) })?;
        self.held += layout.size();
        if self.held <= self.expected {
            large_pages::ask_for(piece, layout.size());
        }
        self.pieces.push((piece, layout));
        self.put(piece, layout.size());
        Some(())
    }
}

impl Drop for Land {
    fn drop(&mut self) {
        for &(piece, layout) in &self.pieces {
            // SAFETY: allocated with this layout. Each plot keeps its ground, so none is left.
            unsafe { dealloc(piece.as_ptr(), layout) };
        }
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
mod large_pages {
    use std::ptr::NonNull;

    use rustix::mm::{Advice, madvise};

    pub(super) const EXIST: bool = true;

    pub(super) fn ask_for(start: NonNull<u8>, len: usize) {
        // SAFETY: memory of our own, and this advice changes nothing of what is in it. Where the system is not willing all
        // stays as it is.
        let _ = unsafe { madvise(start.as_ptr().cast(), len, Advice::LinuxHugepage) };
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
mod large_pages {
    use std::ptr::NonNull;

    pub(super) const EXIST: bool = false;

    pub(super) fn ask_for(_start: NonNull<u8>, _len: usize) {}
}

/// The layout of a plot, from that of what is in it.
fn lined_up(layout: Layout) -> Result<Layout, LayoutError> {
    if layout.size() < LINE { Ok(layout) } else { layout.align_to(LINE) }
}

/// A slice in the memory of a store.
pub(super) struct Plot<T> {
    start: NonNull<T>,
    len: usize,
    /// What it is part of; `None` if it is an allocation of its own.
    ground: Option<Arc<Ground>>,
}

// SAFETY: it owns its elements, as a boxed slice does.
unsafe impl<T: Send> Send for Plot<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Plot<T> {}

impl<T> Plot<T> {
    pub(super) fn empty() -> Plot<T> {
        Plot { start: NonNull::dangling(), len: 0, ground: None }
    }

    /// So many elements, made one by one.
    pub(super) fn new(ground: &Arc<Ground>, len: usize, mut make: impl FnMut() -> T) -> Plot<T> {
        let mut bare = Plot::bare(ground, len);
        for place in bare.iter_mut() {
            place.write(make());
        }
        let mut bare = ManuallyDrop::new(bare);
        Plot { start: bare.start.cast(), len, ground: bare.ground.take() }
    }

    /// Where it begins, for who must not borrow all of it at once.
    #[inline]
    pub(super) fn start(&self) -> NonNull<T> {
        self.start
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Room for so many elements.
    pub(super) fn bare(ground: &Arc<Ground>, len: usize) -> Plot<MaybeUninit<T>> {
        let Ok(layout) = Layout::array::<T>(len).and_then(lined_up) else { handle_alloc_error(Layout::new::<T>()) };
        if layout.size() == 0 {
            return Plot { start: NonNull::dangling(), len, ground: None };
        }
        if let Some(part) = ground.take(layout) {
            return Plot { start: part.cast(), len, ground: Some(Arc::clone(ground)) };
        }
        // SAFETY: its size is not zero.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        Plot { start: start.cast(), len, ground: None }
    }
}

impl<T> Deref for Plot<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: so many elements are there, and they are its own.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Plot<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T> Drop for Plot<T> {
    fn drop(&mut self) {
        // As it was found to be when it was made.
        let layout = Layout::for_value::<[T]>(self);
        let layout = lined_up(layout).unwrap_or(layout);
        // SAFETY: they are dropped once; nobody looks at the plot after this.
        unsafe { ptr::drop_in_place::<[T]>(&raw mut **self) };
        match &self.ground {
            Some(ground) => ground.give_back(self.start.cast(), layout.size()),
            None if layout.size() == 0 => {}
            // SAFETY: allocated by `bare` with this layout.
            None => unsafe { dealloc(self.start.as_ptr().cast(), layout) },
        }
    }
}

#[cfg(all(test, not(everfresh_loom)))]
mod tests {
    use super::*;

    fn held(ground: &Ground) -> usize {
        lock(&ground.0).held
    }

    #[test]
    fn a_small_store_asks_for_no_large_page() {
        let ground = Ground::new();
        let plots: Vec<Plot<u64>> = (0..100).map(|each| Plot::new(&ground, 1_000, || each)).collect();
        assert_eq!(held(&ground), 0);
        assert!(plots.iter().zip(0..).all(|(plot, each)| plot.len() == 1_000 && plot.iter().all(|&is| is == each)));
    }

    #[test]
    fn plots_of_a_large_store_lie_side_by_side_and_do_not_overlap() {
        let ground = Ground::new();
        let lens = [1, 7, 1_000, 100_000, 3_000, 500_000, 20].into_iter().cycle().take(100);
        let mut plots: Vec<Plot<u64>> = lens.zip(0..).map(|(len, each)| Plot::new(&ground, len, || each)).collect();
        if large_pages::EXIST {
            let asked: usize = plots.iter().map(|plot| plot.len() * size_of::<u64>()).sum();
            assert!((asked - 2 * SMALL..asked + asked / 2).contains(&held(&ground)), "{}", held(&ground));
        }
        for (plot, each) in plots.iter_mut().zip(0..) {
            assert!(plot.iter().all(|&is| is == each), "plot {each} was written by another");
            plot.fill(1_000 + each);
        }
        assert!(plots.iter().zip(1_000..).all(|(plot, each)| plot.iter().all(|&is| is == each)));
    }

    #[test]
    fn what_is_given_back_is_used_again() {
        let ground = Ground::new();
        let mut last = Plot::<u64>::empty();
        for round in 0..1_000 {
            last = Plot::new(&ground, 200_000, || round);
        }
        assert!(held(&ground) <= 4 * PAGE, "{} bytes for {}", held(&ground), size_of_val::<[u64]>(&last));
    }

    #[test]
    fn a_plot_is_aligned_and_drops_its_elements_once() {
        #[repr(align(128))]
        struct Wide(Arc<()>);
        let (ground, counted) = (Ground::new(), Arc::new(()));
        for len in [0, 1, 3, 10_000, 17] {
            let plot = Plot::new(&ground, len, || Wide(Arc::clone(&counted)));
            assert!(plot.as_ptr().addr().is_multiple_of(128));
            assert_eq!(Arc::strong_count(&counted), 1 + len);
            assert!(plot.iter().all(|wide| Arc::ptr_eq(&wide.0, &counted)));
            drop(plot);
            assert_eq!(Arc::strong_count(&counted), 1);
        }
    }
}
