//! A system without what an arena needs.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpStream;

/// There is none.
#[derive(Debug)]
pub enum Arena {}

impl Arena {
    /// Always an error.
    ///
    /// # Errors
    /// Always.
    pub fn new(_capacity: u64) -> io::Result<Arc<Self>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// See the one of Linux.
    pub fn keep(self: &Arc<Self>, _chunks: &[Bytes]) -> Option<Bytes> {
        match **self {}
    }

    /// See the one of Linux.
    pub fn room(&self, _length: usize) -> u64 {
        match *self {}
    }

    /// See the one of Linux.
    pub fn used(&self) -> u64 {
        match *self {}
    }

    /// See the one of Linux.
    pub fn offset_of(&self, _bytes: &[u8]) -> Option<u64> {
        match *self {}
    }

    /// See the one of Linux.
    ///
    /// # Errors
    /// See the one of Linux.
    pub fn send(&self, _: &TcpStream, _: &[IoSlice<'_>], _: u64, _: usize) -> io::Result<Option<usize>> {
        match *self {}
    }
}
