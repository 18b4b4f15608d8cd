//! What clients say, frame by frame, and what they are told.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Wake, Waker, ready};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Body as _;

use super::*;
use crate::http2::frame::{LONGEST, flag, put};
use crate::http2::state::{AHEAD, OWED, REMEMBERED};

const SETTINGS: Settings = Settings {
    streams: 3,
    stream_window: 1_000_000,
    connection_window: 1_000_000,
    head: 65_536,
    connects: false,
};

/// `GET http://a/` in short, as a client with an empty table says it.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];
const POST: &[u8] = &[0x83, 0x86, 0x84, 0x41, 1, b'a'];
const ALL: u8 = flag::END_HEADERS | flag::END_STREAM;

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// A connection whose client has said hello.
fn begun() -> Session {
    let session = Session::new(SETTINGS);
    let mut hello = BytesMut::from(PREFACE);
    put(&mut hello, (kind::SETTINGS, 0, 0), &[]);
    assert!(said(&session, hello).unwrap().is_empty());
    told(&session);
    session
}

/// What comes of frames.
fn said(session: &Session, mut octets: BytesMut) -> Result<Vec<Asked>, Fault> {
    let mut asked = Vec::new();
    while let Some(frame) = session.next(&mut octets)? {
        match session.receive(frame)? {
            Heard::Asked(request) => asked.push(request),
            Heard::Nothing | Heard::Reset => {}
        }
    }
    Ok(asked)
}

fn one(session: &Session, head: (u8, u8, u32), payload: &[u8]) -> Result<Option<Asked>, Fault> {
    let mut octets = BytesMut::new();
    put(&mut octets, head, payload);
    said(session, octets).map(|mut asked| asked.pop())
}

fn asked(session: &Session, stream: u32) -> Asked {
    one(session, (kind::HEADERS, ALL, stream), GET).unwrap().expect("a request")
}

/// The frames that the client has been told since it was asked last.
fn told(session: &Session) -> Vec<Frame> {
    let mut state = session.0.borrow_mut();
    let out = std::mem::take(state.writer.out());
    state.owed.0 = 0;
    let mut octets = BytesMut::from(&out.collected()[..]);
    std::iter::from_fn(|| Frame::take(&mut octets).unwrap()).collect()
}

fn kinds(session: &Session) -> Vec<(u8, u32)> {
    told(session).iter().map(|frame| (frame.head.kind, frame.head.stream)).collect()
}

fn ok(asked: &Asked, ends: bool) {
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = StatusCode::OK;
    asked.outbound.head(&mut head, ends);
}

#[test]
fn a_client_begins_with_its_preface_and_its_settings() {
    let ping = |octets: &mut BytesMut| put(octets, (kind::PING, 0, 0), &[0; 8]);
    let form = Fault::Connection(Code::PROTOCOL);
    let mut octets = BytesMut::from(PREFACE);
    ping(&mut octets);
    assert_eq!(said(&Session::new(SETTINGS), octets).unwrap_err(), form);
    let session = Session::new(SETTINGS);
    assert_eq!(session.next(&mut BytesMut::from(&b"PRI * HTTP/2.1"[..])).unwrap_err(), form);
    assert!(session.next(&mut BytesMut::from(&PREFACE[..10])).unwrap().is_none());
    let session = begun();
    let mut octets = BytesMut::new();
    ping(&mut octets);
    said(&session, octets).unwrap();
    assert_eq!(kinds(&session), [(kind::PING, 0)]);
}

#[test]
fn streams_are_as_many_as_they_may_be() {
    let session = begun();
    let mut streams: Vec<Asked> = (0..3).map(|at| asked(&session, 2 * at + 1)).collect();
    assert!(one(&session, (kind::HEADERS, ALL, 7), GET).unwrap().is_none());
    let refused = told(&session);
    assert_eq!((refused[0].head.kind, &refused[0].payload[..]), (kind::RST_STREAM, &[0, 0, 0, 7][..]));
    // One whose answer has ended makes room, though it is held still.
    ok(&streams[0], true);
    streams.push(asked(&session, 9));
    drop(streams);
    assert!(session.is_idle());
    let form = Err(Fault::Connection(Code::PROTOCOL));
    assert_eq!(one(&session, (kind::HEADERS, ALL, 2), GET).map(|_| ()), form, "a server's");
    assert_eq!(one(&session, (kind::RST_STREAM, 0, 11), &[0; 4]).map(|_| ()), form, "nobody's");
}

#[test]
fn what_comes_on_streams_that_are_over_is_judged_by_who_ended_them() {
    let (late, closed) = (Fault::Stream(1, Code::STREAM_CLOSED), Fault::Connection(Code::STREAM_CLOSED));
    for (ends, resets, want) in [
        // Both sides have said all.
        (true, None, Err(closed)),
        (true, Some(()), Err(late)),
        (false, Some(()), Err(late)),
        // The gateway has given it up.
        (false, None, Ok(())),
    ] {
        let session = begun();
        let stream = asked(&session, 1);
        if ends {
            ok(&stream, true);
        }
        if resets.is_some() {
            one(&session, (kind::RST_STREAM, 0, 1), &[0; 4]).unwrap();
        }
        drop(stream);
        let mut state = session.0.borrow_mut();
        let found = state.whole(1, true, GET).map(|_| ());
        assert_eq!(found, want, "{ends} {resets:?}");
    }
}

#[test]
fn data_is_sent_as_far_as_both_windows_go() {
    let session = begun();
    let stream = asked(&session, 1);
    ok(&stream, false);
    told(&session);
    let mut data = Bytes::from(vec![7; 100_000]);
    let poll = |data: &mut Bytes| stream.outbound.poll_data(data, true, &mut cx());
    assert!(poll(&mut data).is_pending());
    let sent = |session: &Session| -> usize { told(session).iter().map(|frame| frame.payload.len()).sum() };
    assert_eq!(sent(&session), 65_535, "what windows are at first");
    one(&session, (kind::WINDOW_UPDATE, 0, 1), &100_000_u32.to_be_bytes()).unwrap();
    assert!(poll(&mut data).is_pending() && !session.rouse());
    one(&session, (kind::WINDOW_UPDATE, 0, 0), &10_000_u32.to_be_bytes()).unwrap();
    assert!(session.rouse() && poll(&mut data).is_pending());
    assert_eq!(sent(&session), 10_000);
    one(&session, (kind::WINDOW_UPDATE, 0, 0), &100_000_u32.to_be_bytes()).unwrap();
    assert!(session.rouse() && poll(&mut data).is_ready());
    let last = told(&session);
    assert!(last.iter().all(|frame| frame.payload.len() <= LONGEST));
    assert!(last.last().unwrap().head.has(flag::END_STREAM) && data.is_empty());
}

#[test]
fn streams_that_have_much_to_say_take_turns() {
    let session = begun();
    let window = |id| one(&session, (kind::WINDOW_UPDATE, 0, id), &(1_u32 << 24).to_be_bytes()).map(|_| ());
    let streams = [1, 3, 5].map(|id| asked(&session, id));
    [0, 1, 3, 5].map(window).into_iter().collect::<Result<(), _>>().unwrap();
    let mut data = [(); 3].map(|()| Bytes::from(vec![7; 1 << 20]));
    told(&session);
    let mut octets = [0; 3];
    for _ in 0..20 {
        loop {
            for (stream, data) in streams.iter().zip(&mut data) {
                let _ = stream.outbound.poll_data(data, false, &mut cx());
            }
            if !session.rouse() {
                break;
            }
        }
        assert!(session.0.borrow().writer.unsent() < AHEAD + LONGEST + 64, "no more than may wait");
        for frame in told(&session) {
            octets[frame.head.stream as usize / 2] += frame.payload.len();
        }
        session.rouse();
    }
    let (most, least) = (octets.iter().max().unwrap(), octets.iter().min().unwrap());
    assert!(most - least <= 2 * AHEAD && *least > 300_000, "{octets:?}");
}

#[test]
fn a_body_is_waited_for_and_its_client_told_to_go_on() {
    let session = begun();
    let mut asked = one(&session, (kind::HEADERS, flag::END_HEADERS, 1), POST).unwrap().unwrap();
    let mut body = asked.inbound.take().expect("one that has a body");
    body.owes_continue();
    let mut next = || Pin::new(&mut body).poll_frame(&mut cx());
    assert!(next().is_pending() && next().is_pending());
    assert_eq!(kinds(&session), [(kind::HEADERS, 1)], "once");
    one(&session, (kind::DATA, 0, 1), b"hello").unwrap();
    let Poll::Ready(Some(Ok(frame))) = next() else { panic!("no data") };
    assert_eq!(frame.into_data().unwrap(), "hello");
    one(&session, (kind::HEADERS, ALL, 1), &[0, 1, b'x', 1, b'y']).unwrap();
    let Poll::Ready(Some(Ok(frame))) = next() else { panic!("no trailers") };
    assert_eq!(frame.into_trailers().unwrap()["x"], "y");
    assert!(matches!(next(), Poll::Ready(None)));
}

#[test]
fn what_nobody_takes_of_a_body_is_not_waited_for_behind_its_answer() {
    let session = begun();
    let mut asked = one(&session, (kind::HEADERS, flag::END_HEADERS, 1), POST).unwrap().unwrap();
    one(&session, (kind::DATA, 0, 1), &[0; 10_000]).unwrap();
    drop(asked.inbound.take());
    ok(&asked, false);
    assert_eq!(kinds(&session), [(kind::HEADERS, 1)]);
    assert!(asked.outbound.poll_data(&mut Bytes::new(), true, &mut cx()).is_ready());
    drop(asked);
    let frames = told(&session);
    assert_eq!((frames[0].head.kind, frames[1].head.kind), (kind::DATA, kind::RST_STREAM));
    assert_eq!(frames[1].payload[..], [0; 4], "for no error");
    // What was under way counts for the connection still.
    one(&session, (kind::DATA, 0, 1), &[0; 10_000]).unwrap();
    assert_eq!(session.0.borrow().taken, 20_000);
}

#[test]
fn a_client_is_told_to_go_and_then_from_which_stream_on() {
    let session = begun();
    let first = asked(&session, 1);
    session.leave();
    session.leave();
    let frames = told(&session);
    assert_eq!(frames.len(), 2);
    assert_eq!((frames[0].head.kind, &frames[0].payload[..4]), (kind::GOAWAY, &[0x7f, 255, 255, 255][..]));
    let second = asked(&session, 3);
    one(&session, (kind::PING, flag::ACK, 0), &frames[1].payload).unwrap();
    assert_eq!(told(&session)[0].payload[..4], [0, 0, 0, 3]);
    assert!(one(&session, (kind::HEADERS, ALL, 5), GET).unwrap().is_none(), "nothing is begun any more");
    drop(first);
    assert!(!session.is_over());
    ok(&second, true);
    drop(second);
    assert!(session.is_over());
}

#[test]
fn who_asks_and_does_not_listen_is_not_listened_to() {
    let session = begun();
    let mut pings = BytesMut::new();
    for _ in 0..2_000 {
        put(&mut pings, (kind::PING, 0, 0), &[0; 8]);
    }
    while let Some(frame) = session.next(&mut pings).unwrap() {
        session.receive(frame).unwrap();
    }
    let waiting = session.0.borrow().writer.unsent();
    assert!(session.is_clogged() && !pings.is_empty() && waiting < 2 * OWED, "{waiting}");
    let heads = begun();
    let (mut head, ()) = Response::new(()).into_parts();
    head.headers.insert("x-large", "y".repeat(20_000).try_into().unwrap());
    for at in 0..2 {
        assert!(!heads.is_clogged());
        asked(&heads, 2 * at + 1).outbound.head(&mut head, true);
    }
    assert!(heads.is_clogged(), "heads are said without asking for room");
    let sent = std::future::poll_fn(|cx| {
        let (sent, _) = session.poll_send(&mut tokio::io::sink(), cx);
        ready!(sent).unwrap();
        Poll::Ready(())
    });
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(sent);
    assert!(!session.is_clogged() && session.next(&mut pings).unwrap().is_some());
}

#[test]
fn uploads_that_stand_still_do_not_stop_others() {
    let session = begun();
    session.0.borrow_mut().settings.stream_window = 1 << 20;
    let mut uploads: Vec<Asked> =
        [1, 3].map(|id| one(&session, (kind::HEADERS, flag::END_HEADERS, id), POST).unwrap().unwrap()).into();
    let mut body = uploads[1].inbound.take().unwrap();
    for _ in 0..50 {
        one(&session, (kind::DATA, 0, 1), &[0; LONGEST]).unwrap();
    }
    let room = session.0.borrow().room;
    for _ in 0..100 {
        one(&session, (kind::DATA, 0, 3), &[0; LONGEST]).unwrap();
        while Pin::new(&mut body).poll_frame(&mut cx()).is_ready() {}
        assert!(session.0.borrow().room >= LONGEST as u32, "of {room}");
    }
}

#[test]
fn padding_is_taken_by_nobody_and_counts() {
    let session = begun();
    let _upload = one(&session, (kind::HEADERS, flag::END_HEADERS, 1), POST).unwrap().unwrap();
    let mut padded = [0; 256];
    padded[0] = 255;
    for _ in 0..10_000 {
        one(&session, (kind::DATA, flag::PADDED, 1), &padded).unwrap();
    }
    assert!(kinds(&session).contains(&(kind::WINDOW_UPDATE, 1)));
}

#[test]
fn what_comes_late_on_a_stream_that_is_long_forgotten_is_its_own_fault() {
    let session = begun();
    for at in 0..=REMEMBERED as u32 {
        drop(asked(&session, 2 * at + 1));
    }
    let found = |id| session.0.borrow_mut().whole(id, true, GET).map(|_| ());
    assert_eq!(found(1), Err(Fault::Stream(1, Code::STREAM_CLOSED)));
    assert_eq!(found(3), Ok(()), "the gateway has ended it");
    asked(&session, 1_001);
    assert_eq!(found(999), Err(Fault::Connection(Code::PROTOCOL)), "it was never begun");
}

#[test]
fn who_drives_the_connection_hears_of_what_others_do_on_streams() {
    #[derive(Default)]
    struct Bell(AtomicU32);
    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(bell.clone());
    let rings = || bell.0.swap(0, Ordering::Relaxed);
    let session = begun();
    let stream = asked(&session, 1);
    session.attend(true, &Context::from_waker(&waker));
    ok(&stream, false);
    assert_eq!(rings(), 0, "it looks by itself");
    session.attend(false, &Context::from_waker(&waker));
    assert!(stream.outbound.poll_data(&mut Bytes::from_static(b"hello"), true, &mut cx()).is_ready());
    assert!(rings() > 0, "there is something to send");
    drop(stream);
    assert!(rings() > 0 && session.is_idle(), "it may have waited for the last one");
}
