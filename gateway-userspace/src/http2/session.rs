//! A connection as those use it who drive it: frames that were read are given to it, requests come of them, and what is to be sent. Nothing
//! here reads or waits.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::AsyncWrite;

use super::fault::{Broken, Code, Fault};
use super::frame::{Frame, PREFACE, kind};
use super::head::RequestHead;
use super::inbound::Inbound;
use super::outbound::Outbound;
use super::settings::{LARGEST_WINDOW, Settings};
use super::state::{Begun, LAST_PING, Leaving, Phase, State};
use crate::wire::remember;

/// A request that was asked for just now, with both ends of its stream.
#[derive(Debug)]
pub struct Asked {
    /// `None`: it is larger than a head may be.
    pub head: Option<RequestHead>,
    /// Its body, or what a switched stream brings; `None` if nothing follows.
    pub inbound: Option<Inbound>,
    /// Where it is answered.
    pub outbound: Outbound,
}

/// What comes of a frame.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most that is heard is the large one, and is taken apart at once"
)]
pub enum Heard {
    /// Nothing that anybody has to know.
    Nothing,
    /// A request.
    Asked(Asked),
    /// A stream that broke the rules was ended.
    Reset,
}

/// See the module. Clones share it.
#[derive(Debug, Clone)]
pub struct Session(pub(super) Rc<RefCell<State>>);

impl Session {
    /// Of a connection whose client has not been read yet, its preface neither.
    pub fn new(settings: Settings) -> Self {
        let mut state = State::new(settings);
        settings.put(state.writer.out().head());
        Self(Rc::new(RefCell::new(state)))
    }

    /// Whether the connection is being polled: its task need not be woken then, and is when something is to be sent otherwise.
    pub fn attend(&self, is_attended: bool, cx: &Context<'_>) {
        let mut state = self.0.borrow_mut();
        state.is_attended = is_attended;
        remember(&mut state.task, cx);
    }

    /// Takes the next frame out of what was read; `None`: more is needed, or what the client has already asked for is to be
    /// sent first.
    pub fn next(&self, read: &mut BytesMut) -> Result<Option<Frame>, Fault> {
        let mut state = self.0.borrow_mut();
        if state.phase == Phase::Preface {
            let length = read.len().min(PREFACE.len());
            if read[..length] != PREFACE[..length] {
                return Err(Fault::Connection(Code::PROTOCOL));
            }
            if length < PREFACE.len() {
                return Ok(None);
            }
            drop(read.split_to(length));
            state.phase = Phase::Settings;
        }
        if state.is_clogged() { Ok(None) } else { Frame::take(read) }
    }

    /// Whether the client is not listened to before it has taken what it has asked for already.
    pub fn is_clogged(&self) -> bool {
        self.0.borrow().is_clogged()
    }

    /// Does what a frame asks for. A fault of a stream is answered; one of the connection is returned.
    pub fn receive(&self, frame: Frame) -> Result<Heard, Fault> {
        let asked = self.0.borrow_mut().receive(frame);
        match asked {
            Ok(None) => Ok(Heard::Nothing),
            Ok(Some(begun)) => Ok(Heard::Asked(self.asked(begun))),
            Err(Fault::Stream(id, code)) => {
                self.0.borrow_mut().reset(id, code, Broken::Flawed);
                Ok(Heard::Reset)
            }
            Err(fault) => Err(fault),
        }
    }

    fn asked(&self, Begun { id, head }: Begun) -> Asked {
        let mut state = self.0.borrow_mut();
        let has_body = state.streams.get(id).is_some_and(|stream| stream.inflow.is_held);
        drop(state);
        let inbound = has_body.then(|| Inbound::new(self.clone(), id));
        Asked { head, inbound, outbound: Outbound::new(self.clone(), id) }
    }

    /// Sends what there is: how many bytes.
    pub fn poll_send(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> (Poll<io::Result<()>>, usize) {
        let state = &mut *self.0.borrow_mut();
        let before = state.writer.unsent();
        let sent = state.writer.poll_send(stream, cx);
        let left = state.writer.unsent();
        state.sent += (before - left) as u64;
        if state.sent >= state.owed.1 {
            state.owed.0 = 0;
        }
        (sent, before - left)
    }

    /// Tells the next stream that waits for room that there is some; whether there was one.
    pub fn rouse(&self) -> bool {
        self.0.borrow_mut().rouse()
    }

    /// Tells the client to go once what is under way is served (RFC 9113, 6.8).
    pub fn leave(&self) {
        let state = &mut *self.0.borrow_mut();
        if state.leaving == Leaving::No {
            state.leaving = Leaving::Said;
            state.put_goaway(LARGEST_WINDOW as u32, Code::NONE);
            state.put((kind::PING, 0, 0), &LAST_PING);
        }
    }

    /// Whether nothing more will be asked for, and nothing is under way.
    pub fn is_over(&self) -> bool {
        let state = self.0.borrow();
        (state.client_leaves || matches!(state.leaving, Leaving::Final(_))) && state.streams.is_empty()
    }

    /// A connection that has nothing to say holds nothing for it.
    pub fn rest(&self) {
        self.0.borrow_mut().writer.rest();
    }

    /// Whether no stream is there.
    pub fn is_idle(&self) -> bool {
        self.0.borrow().streams.is_empty()
    }

    /// Ends the connection for a fault, or for none: its streams are over.
    pub fn fail(&self, code: Code) {
        let state = &mut *self.0.borrow_mut();
        let last = if let Leaving::Final(last) = state.leaving { last } else { state.newest };
        state.put_goaway(last, code);
        state.leaving = Leaving::Final(last);
        state.break_off();
    }

    /// The connection is gone.
    pub fn gone(&self) {
        self.0.borrow_mut().break_off();
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
