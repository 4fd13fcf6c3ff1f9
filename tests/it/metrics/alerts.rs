//! The alert rules.
