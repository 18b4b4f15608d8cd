//! Who has a connection while a response is read of it, and what becomes of it then.

use std::any::Any;

use super::http1::Channel;
use super::pool::Returnable;

/// See the module. Dropped, the connection is closed: bytes of the response may still be on their way.
#[derive(Debug)]
pub(super) enum Loan {
    /// It goes back to the pool.
    Pooled(Returnable),
    /// It has this request and no other.
    Own(Box<Own>),
}

/// A connection that is closed behind its only response. What is kept with it ends after it.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) channel: Channel,
    pub(super) kept: Box<dyn Any>,
}

impl Loan {
    pub(super) fn channel(&self) -> &Channel {
        match self {
            Self::Pooled(returnable) => returnable.channel(),
            Self::Own(own) => &own.channel,
        }
    }

    pub(super) fn channel_mut(&mut self) -> &mut Channel {
        match self {
            Self::Pooled(returnable) => returnable.channel_mut(),
            Self::Own(own) => &mut own.channel,
        }
    }

    /// The response was read to its end, and the request sent.
    pub(super) fn give_back(self) {
        match self {
            Self::Pooled(returnable) => returnable.give_back(),
            Self::Own(mut own) => own.channel.take_leave(),
        }
    }
}
