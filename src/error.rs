// SPDX-License-Identifier: GPL-2.0

//! Why a request was refused, for the one who made it.

use crate::prelude::*;
use kernel::alloc::AllocError;

/// An errno, and what user space is told with it.
#[derive(Clone, Copy)]
pub struct Refusal {
    /// The errno.
    pub error: Error,
    /// One line for the extended acknowledgement.
    pub why: Option<&'static CStr>,
    /// The attribute (`L2TP_ATTR_*`) that is to blame.
    pub attr: Option<u16>,
}

/// The result of a request.
pub type Outcome<T = ()> = core::result::Result<T, Refusal>;

impl Refusal {
    /// A refusal with a reason.
    pub const fn new(error: Error, why: &'static CStr) -> Self {
        Self {
            error,
            why: Some(why),
            attr: None,
        }
    }

    /// Names the attribute that is to blame.
    pub const fn about(self, attr: u16) -> Self {
        Self {
            attr: Some(attr),
            ..self
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self {
            error,
            why: None,
            attr: None,
        }
    }
}

impl From<AllocError> for Refusal {
    fn from(_: AllocError) -> Self {
        ENOMEM.into()
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        refusal.error
    }
}
