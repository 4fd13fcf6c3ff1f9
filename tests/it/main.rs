//! One integration binary: what only the whole shows.
