//! How what stands in rows is shown: as it is stored, or without what looks like a secret.

use std::borrow::Cow;

use crate::redact::Redactor;

/// How bodies are shown.
pub(super) enum Bodies {
    /// Byte for byte.
    AsStored,
    /// Without what looks like a secret. The secrets themselves are not known any more.
    Redacted(Redactor),
}

impl Bodies {
    /// A text as it may be shown: borrowed where nothing was taken out.
    pub(super) fn show<'a>(&self, body: &'a str) -> Cow<'a, str> {
        match self {
            Self::AsStored => Cow::Borrowed(body),
            Self::Redacted(redactor) => redactor.redact(body),
        }
    }
}
