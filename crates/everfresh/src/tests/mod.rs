//! What takes a whole cache to be tested, and cannot be seen from outside.

mod epochs;
mod estimate;
mod plain;
