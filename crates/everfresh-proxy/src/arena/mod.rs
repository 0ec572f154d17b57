//! Where large bodies are kept: a file in memory that the kernel sends from without a copy (`sendfile`).
//!
//! The file is mapped once, as one region of addresses that is larger than all that may be stored; only what is in use
//! takes memory. A body has a range of whole pages, is written once, and is read by everybody through the mapping.
//!
//! **Why no answer can be altered by what comes after it.** What `sendfile` hands to a socket are the pages themselves,
//! which may wait there, or be sent again, long after the last handle of the body is gone. So a range is punched out of
//! the file before it is given to another body: its pages leave the file, and live on, unchanged, for as long as a packet
//! holds them; the other body gets new ones. That needs pages that are as small as the ranges are aligned to, for of a
//! larger one a part would be blanked where it stands: the mapping, through which alone pages come into being, is told to
//! have none (`MADV_NOHUGEPAGE`). If punching fails, the range is never given out again.
//!
//! Elsewhere than on Linux there is none, and bodies are copied when they are sent.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod none;

#[cfg(target_os = "linux")]
pub use linux::Arena;
#[cfg(not(target_os = "linux"))]
pub use none::Arena;

/// Shorter bodies stay on the heap: to send them, one copy costs less than one more call of the kernel.
pub const LEAST: usize = 32 << 10;
