//! What a timeline looks like.
