//! A request and its answer. The request is served by a future that is polled here, beside reading its body; then the answer is
//! sent as far as the client takes it, and no more of it is asked for than that.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use http::header::{TE, UPGRADE};
use http::{Method, Request, Response, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Conversation;
use super::answer::{Answer, Broken};
use super::intake::Intake;
use crate::http1::{Length, RequestHead};
use crate::proxy::http::exchange::Watch;
use crate::proxy::http::record::Recorded;
use crate::proxy::http::{headers, request};
use crate::upstream::ClientBody;
use crate::wire::{Switch, switching};

/// A request whose head has come.
pub(super) struct Asked {
    /// In a box, as futures within futures each have room for it.
    request: Box<Request<ClientBody>>,
    /// Where its body comes from, if it has one.
    intake: Option<Intake>,
    is_plain: bool,
    about: About,
}

/// What of a request decides how its answer is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct About {
    pub(super) version: Version,
    pub(super) is_head: bool,
    pub(super) takes_trailers: bool,
    pub(super) keeps_alive: bool,
}

/// What becomes of a connection.
pub(super) enum After {
    Next,
    /// No other request follows. `is_read`: nor anything of this one.
    End {
        is_read: bool,
    },
    /// The answer broke off, which the client is to see.
    Cut,
    /// There is nobody to talk to any more.
    Gone,
    /// It speaks another protocol from now on.
    Switch(Switch),
}

impl Asked {
    /// By its head, with what was read behind it.
    pub(super) fn of(head: RequestHead, read: &mut BytesMut) -> Self {
        let RequestHead { request, length, is_kept_alive, expects_continue } = head;
        let is_plain = length.is_ok();
        let about = About {
            version: request.version(),
            is_head: request.method() == Method::HEAD,
            takes_trailers: headers::lists(request.headers(), TE, b"trailers"),
            // Where a body ends of which that is in doubt nobody knows.
            keeps_alive: is_kept_alive && is_plain,
        };
        let owes_continue = expects_continue && about.version == Version::HTTP_11;
        let (intake, body) = match length {
            Ok(length) if length != Length::Exact(0) => {
                let (intake, body) = Intake::new(length, owes_continue, read);
                (Some(intake), ClientBody::http1(body))
            }
            Ok(_) | Err(_) => (None, ClientBody::empty()),
        };
        Self { request: Box::new(request.map(|()| body)), intake, is_plain, about }
    }

    /// Whether it may switch to another protocol.
    fn may_switch(&self) -> bool {
        self.about.version == Version::HTTP_11 && self.request.headers().contains_key(UPGRADE)
    }
}

/// Serves a request, and answers it.
pub(super) async fn exchange<S>(talk: &mut Conversation<'_, S>, asked: Asked) -> After
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connection = talk.connection;
    let (switch, wanted) = asked.may_switch().then(switching).unzip();
    let Asked { request, mut intake, is_plain, about } = asked;
    let exchange = connection.shared.exchanges.begin(Rc::as_ptr(connection).addr());
    exchange.may_switch(wanted);
    let watch = exchange.watch();
    let served = {
        let mut serving = pin!(request::serve(connection, request, is_plain, &exchange));
        poll_fn(|cx| talk.poll_served(serving.as_mut(), &mut intake, cx)).await
    };
    let Some((response, goes_on)) = served else { return After::Gone };
    let is_switch = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let goes_on = goes_on && !talk.aside.is_leaving() && talk.closed.is_none();
    let response = response.map(|body| exchange.with(body, &connection.shared.overload));
    let (mut answer, keeps_alive) = Answer::begin(response, about, goes_on, talk.wire.out());
    match poll_fn(|cx| talk.poll_answered(&mut answer, &mut intake, &watch, cx)).await {
        Ok(()) => {}
        Err(Broken::Answer) => return After::Cut,
        Err(Broken::Client) => return After::Gone,
    }
    let ends_with_connection = answer.ends_with_connection();
    drop(answer);
    if let Some(switch) = switch.filter(|_| is_switch) {
        return After::Switch(switch);
    }
    let is_read_on = |intake: &&mut Intake| intake.is_wanted() || keeps_alive && !intake.is_whole();
    if let Some(intake) = intake.as_mut().filter(is_read_on) {
        if ends_with_connection && poll_fn(|cx| talk.poll_shut(cx)).await.is_err() {
            return After::Gone;
        }
        match poll_fn(|cx| talk.poll_rest(intake, cx)).await {
            Some(true) => {}
            Some(false) => return After::End { is_read: false },
            None => return After::Gone,
        }
    }
    if keeps_alive && talk.closed.is_none() {
        After::Next
    } else {
        let is_whole = intake.is_none_or(|intake| intake.is_whole());
        // What a request of no certain length has behind its head is not read as its body.
        After::End { is_read: is_plain && is_whole && talk.wire.buffer().is_empty() }
    }
}

impl<S> Conversation<'_, S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// The answer, and whether another request may follow; `None`: there is nobody to answer any more.
    fn poll_served(
        &mut self,
        serving: Pin<&mut impl Future<Output = Response<Recorded>>>,
        intake: &mut Option<Intake>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(Response<Recorded>, bool)>> {
        if let Some(intake) = intake {
            intake.attend(true);
        }
        let served = self.poll_serving(serving, intake.as_mut(), cx);
        if let Some(intake) = intake {
            intake.attend(false);
        }
        served
    }

    fn poll_serving(
        &mut self,
        mut serving: Pin<&mut impl Future<Output = Response<Recorded>>>,
        mut intake: Option<&mut Intake>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(Response<Recorded>, bool)>> {
        loop {
            if let Poll::Ready(response) = serving.as_mut().poll(cx) {
                let goes_on = intake.is_none_or(|intake| intake.poll_settle(&mut self.wire, cx));
                return Poll::Ready(Some((response, goes_on)));
            }
            let Some(intake) = &mut intake else { break };
            if !intake.poll_feed(&mut self.wire, false, cx) {
                break;
            }
        }
        let is_lost = !self.wire.is_sent() && matches!(self.poll_send(cx), Poll::Ready(Err(_)));
        if is_lost || self.poll_nobody(intake.as_deref(), cx).is_ready() {
            return Poll::Ready(None);
        }
        Poll::Pending
    }

    /// Sends the answer, and reads on what is asked for meanwhile.
    fn poll_answered(
        &mut self,
        answer: &mut Answer,
        intake: &mut Option<Intake>,
        watch: &Watch,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        if let Some(intake) = intake {
            intake.attend(true);
        }
        let answered = self.poll_answering(answer, intake.as_mut(), cx);
        if let Some(intake) = intake {
            intake.attend(false);
        }
        if answered.is_ready() {
            return answered;
        }
        if self.poll_nobody(intake.as_ref(), cx).is_ready() || watch.is_given_up(cx) {
            return Poll::Ready(Err(Broken::Client));
        }
        Poll::Pending
    }

    fn poll_answering(
        &mut self,
        answer: &mut Answer,
        mut intake: Option<&mut Intake>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            let came = answer.poll_more(self.wire.out(), cx);
            if came == Poll::Ready(Err(Broken::Answer)) {
                return came;
            }
            let feeds = intake.as_mut().is_some_and(|intake| intake.poll_feed(&mut self.wire, true, cx));
            let sent = if answer.is_sent() { Poll::Ready(Ok(())) } else { self.poll_send(cx) };
            match sent {
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Client)),
                Poll::Ready(Ok(())) => answer.sent(),
                Poll::Pending if !feeds => return Poll::Pending,
                Poll::Pending => {}
            }
            if sent.is_ready() && answer.is_over() {
                return Poll::Ready(Ok(()));
            }
            if came.is_pending() && !feeds {
                return Poll::Pending;
            }
        }
    }

    /// Whether there is nobody any more whom to answer, or no time for it.
    fn poll_nobody(&mut self, intake: Option<&Intake>, cx: &mut Context<'_>) -> Poll<()> {
        if intake.is_none_or(Intake::is_whole) && self.poll_gone(cx).is_ready() {
            return Poll::Ready(());
        }
        self.aside.poll_over(cx)
    }
}
