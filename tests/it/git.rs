//! git by subprocess, with the real binary as askpass, supervisor and sandbox.

mod attacks;
mod operations;
mod traps;
mod world;
