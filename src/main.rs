//! Parse, run, error to exit code. Nothing else.
fn main() {}
