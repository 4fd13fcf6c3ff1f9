//! git by subprocess, with the real binary as askpass, supervisor and sandbox.

mod attacks;
mod clone;
mod hand_over;
mod leftovers;
mod push;
mod traps;
mod tree;
mod world;
