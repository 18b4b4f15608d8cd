//! The relay between real sockets over loopback: bytes, ends of every kind in every order, pauses.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::*;

const LONG: Duration = Duration::from_mins(1);
/// Enough that a direction splices.
const MUCH: usize = 1 << 20;

/// Two ends of a connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (connected, accepted) = tokio::join!(connecting, listener.accept());
    (connected.unwrap(), accepted.unwrap().0)
}

/// A client and a backend with a relay between them.
async fn stand(prefix: &'static [u8], idle: Duration) -> (TcpStream, Relay, TcpStream) {
    let ((client, downstream), (upstream, backend)) = (pair().await, pair().await);
    (client, Relay::new(downstream, upstream, Bytes::from_static(prefix), idle), backend)
}

async fn run(relay: &mut Relay) -> RelayEnd {
    match relay.run(|| {}, |_| false).await {
        Outcome::Ended(end) => end,
        Outcome::Paused => panic!("nobody asked for a pause"),
    }
}

/// Bytes whose order shows.
fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

/// Sends in pieces of random sizes with random pauses between them.
async fn send(to: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8], seed: u64) {
    let (mut random, mut rest) = (fastrand::Rng::with_seed(seed), bytes);
    while !rest.is_empty() {
        let (piece, others) = rest.split_at(random.usize(1..=200_000).min(rest.len()));
        to.write_all(piece).await.unwrap();
        rest = others;
        for _ in 0..random.u8(..20) {
            yield_now().await;
        }
    }
}

/// Receives in pieces of random sizes with random pauses between them, to the end.
async fn receive(from: &mut (impl AsyncReadExt + Unpin), seed: u64) -> Vec<u8> {
    let (mut random, mut all) = (fastrand::Rng::with_seed(seed), Vec::new());
    loop {
        let mut piece = vec![0; random.usize(1..=300_000)];
        let count = from.read(&mut piece).await.unwrap();
        if count == 0 {
            return all;
        }
        all.extend_from_slice(&piece[..count]);
        for _ in 0..random.u8(..20) {
            yield_now().await;
        }
    }
}

/// One end of a conversation: says all it has to say while it listens to the end.
async fn converse(stream: &mut TcpStream, words: &[u8], seed: u64) -> Vec<u8> {
    let (mut from, mut to) = stream.split();
    let talking = async {
        send(&mut to, words, seed).await;
        to.shutdown().await.unwrap();
    };
    tokio::join!(talking, receive(&mut from, seed + 1)).1
}

#[tokio::test]
async fn both_ways_at_once_every_byte_arrives_in_its_place() {
    const SIZES: [usize; 8] = [0, 1, 1000, 65_535, 65_536, 65_537, MUCH, 8 << 20];
    for (seed, (up, down)) in SIZES.into_iter().flat_map(|up| SIZES.map(|down| (up, down))).enumerate() {
        let seed = seed as u64 * 10;
        let (mut client, mut relay, mut backend) = stand(b"first ", LONG).await;
        // Every other one copies.
        if seed.is_multiple_of(20) {
            relay = relay.without_splice();
        }
        let (words, answer) = (bytes(up, seed), bytes(down, seed + 1));
        let (end, heard, asked) = tokio::join!(
            run(&mut relay),
            converse(&mut client, &words, seed + 2),
            converse(&mut backend, &answer, seed + 4),
        );
        assert!(matches!(end, RelayEnd::Closed), "{up} up, {down} down: {end:?}");
        assert!(heard == answer, "{up} up, {down} down: the answer");
        assert!(asked.strip_prefix(b"first ") == Some(&words), "{up} up, {down} down: the words");
        assert_eq!(relay.carried(), Carried { up: up as u64 + 6, down: down as u64 });
    }
}

#[tokio::test]
async fn much_is_spliced_unless_that_is_unwanted_and_little_is_copied() {
    for (size, wanted, want) in
        [(MUCH, true, true), (MUCH, false, false), (10_000, true, false), (0, true, false)]
    {
        let (mut client, mut relay, mut backend) = stand(b"", LONG).await;
        if !wanted {
            relay = relay.without_splice();
        }
        let seen = Rc::new(Cell::new(Progress { carried: Carried::default(), spliced: false }));
        let watching = seen.clone();
        let mut relay = relay.watched(move |progress| watching.set(progress));
        let answer = bytes(size, 1);
        let sending = async {
            backend.write_all(&answer).await.unwrap();
            backend.shutdown().await.unwrap();
        };
        let (_, heard, ()) = tokio::join!(run(&mut relay), converse(&mut client, b"", 2), sending);
        assert!(heard == answer);
        let want = Progress { carried: Carried { up: 0, down: size as u64 }, spliced: want };
        assert_eq!(seen.get(), want, "{size} bytes");
    }
}

#[tokio::test]
async fn small_messages_are_copied_however_many_there_are() {
    let (mut client, mut relay, mut backend) = stand(b"", LONG).await;
    let mut message = [7; 1000];
    let talking = async {
        for _ in 0..500 {
            client.write_all(&message).await.unwrap();
            backend.read_exact(&mut message).await.unwrap();
            backend.write_all(&message).await.unwrap();
            client.read_exact(&mut message).await.unwrap();
        }
        drop((client, backend));
    };
    tokio::join!(run(&mut relay), talking);
    assert_eq!(relay.carried(), Carried { up: 500_000, down: 500_000 });
    assert!(!relay.up.has_spliced() && !relay.down.has_spliced());
}

#[tokio::test]
async fn the_first_to_have_said_all_still_hears_the_other() {
    for (client_first, amount) in [(true, 10), (true, MUCH), (false, 10), (false, MUCH)] {
        let (client, mut relay, backend) = stand(b"", LONG).await;
        let (mut first, mut second) = if client_first { (client, backend) } else { (backend, client) };
        let words = bytes(amount, 5);
        let talking = async {
            first.write_all(b"that is all").await.unwrap();
            first.shutdown().await.unwrap();
            // The other has heard the end before it says a word.
            let mut heard = Vec::new();
            second.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, b"that is all");
            let answering = async {
                second.write_all(&words).await.unwrap();
                second.shutdown().await.unwrap();
            };
            tokio::join!(answering, receive(&mut first, 6)).1
        };
        let (end, heard) = tokio::join!(run(&mut relay), talking);
        assert!(matches!(end, RelayEnd::Closed) && heard == words, "client first: {client_first}: {end:?}");
    }
}

#[tokio::test]
async fn a_reset_ends_the_relay_and_the_side_is_told() {
    for (by, amount) in [
        (Side::Downstream, 0),
        (Side::Downstream, 10),
        (Side::Downstream, MUCH),
        (Side::Upstream, 0),
        (Side::Upstream, 10),
        (Side::Upstream, MUCH),
    ] {
        let (client, mut relay, backend) = stand(b"", LONG).await;
        let (mut resetting, mut other) =
            if by == Side::Downstream { (client, backend) } else { (backend, client) };
        let words = bytes(amount, 5);
        let talking = async {
            let sending = async {
                other.write_all(&words).await.unwrap();
            };
            let mut heard = vec![0; amount];
            let ((), result) = tokio::join!(sending, resetting.read_exact(&mut heard));
            result.unwrap();
            resetting.set_zero_linger().unwrap();
            drop(resetting);
        };
        let (end, ()) = tokio::join!(run(&mut relay), talking);
        assert!(
            matches!(end, RelayEnd::Failed { side, .. } if side == by),
            "{by:?}, {amount} bytes: {end:?}"
        );
        drop(relay);
        expect_reset(&mut other, b"", &format!("by {by:?}, {amount} bytes")).await;
    }
}

/// Holds that a stream brings these bytes, and has no end.
async fn expect_reset(stream: &mut TcpStream, words: &[u8], what: &str) {
    let mut heard = Vec::new();
    let end = stream.read_to_end(&mut heard).await.map_err(|error| error.kind());
    assert_eq!((end, &*heard), (Err(ErrorKind::ConnectionReset), words), "{what}");
}

#[tokio::test]
async fn a_relay_that_is_dropped_midway_leaves_no_end_that_looks_like_one() {
    let (mut client, mut relay, mut backend) = stand(b"hello", LONG).await;
    client.write_all(b" world").await.unwrap();
    let run = relay.run(|| {}, |carried| carried.up == 11);
    assert!(matches!(run.await, Outcome::Paused));
    drop(relay);
    expect_reset(&mut backend, b"hello world", "the backend").await;
    expect_reset(&mut client, b"", "the client").await;
}

#[tokio::test]
async fn what_is_taken_over_is_reset_until_somebody_else_answers_for_it() {
    let (mut client, relay, mut backend) = stand(b"", LONG).await;
    drop(relay.into_parts());
    expect_reset(&mut backend, b"", "the backend").await;
    expect_reset(&mut client, b"", "the client").await;
}

#[tokio::test]
async fn a_reset_while_bytes_wait_for_that_side_ends_the_relay() {
    for (splices, by) in
        [(true, Side::Downstream), (false, Side::Downstream), (true, Side::Upstream), (false, Side::Upstream)]
    {
        let (client, mut relay, backend) = stand(b"", LONG).await;
        if !splices {
            relay = relay.without_splice();
        }
        let (deaf, mut other) = if by == Side::Downstream { (client, backend) } else { (backend, client) };
        let stalling = async {
            // Until nothing moves any more: both sockets and what is between them are full.
            let piece = vec![1; MUCH];
            while tokio::time::timeout(Duration::from_millis(100), other.write_all(&piece)).await.is_ok() {}
            deaf.set_zero_linger().unwrap();
            drop(deaf);
        };
        let (end, ()) = tokio::join!(run(&mut relay), stalling);
        assert!(matches!(end, RelayEnd::Failed { side, .. } if side == by), "splice {splices}: {end:?}");
        assert_eq!(relay.up.has_spliced() || relay.down.has_spliced(), splices);
    }
}

#[tokio::test]
async fn a_side_that_closes_with_words_unread_does_not_silence_the_other_before() {
    // A backend that answers and closes without reading the request: its answer is all the client gets.
    let (mut client, mut relay, mut backend) = stand(b"request", LONG).await;
    let talking = async {
        backend.write_all(b"busy").await.unwrap();
        let mut heard = [0; 4];
        client.read_exact(&mut heard).await.unwrap();
        drop(backend);
        assert_eq!(&heard, b"busy");
    };
    let (end, ()) = tokio::join!(run(&mut relay), talking);
    assert!(matches!(end, RelayEnd::Failed { side: Side::Upstream, .. }), "{end:?}");
}

#[tokio::test]
async fn what_a_failed_side_has_said_comes_to_the_other_before_the_reset() {
    let (mut client, mut relay, mut backend) = stand(b"request", LONG).await;
    let (answer, (refusing, refused)) = (bytes(MUCH, 8), tokio::sync::oneshot::channel());
    let asking = async {
        backend.write_all(&answer).await.unwrap();
        // All of it is the relay's, or its sockets'.
        while repair::unacknowledged(&backend).unwrap() > 0 {
            yield_now().await;
        }
        drop(backend);
        refusing.send(()).unwrap();
    };
    let waiting = async {
        refused.await.unwrap();
        let mut heard = vec![0; MUCH];
        client.read_exact(&mut heard).await.unwrap();
        assert!(heard == answer);
    };
    let relaying = async move {
        let end = run(&mut relay).await;
        drop(relay);
        end
    };
    let (end, (), ()) = tokio::join!(relaying, asking, waiting);
    assert!(matches!(end, RelayEnd::Failed { side: Side::Upstream, .. }), "{end:?}");
    expect_reset(&mut client, b"", "after the answer").await;
}

#[tokio::test]
async fn silence_both_ways_ends_the_relay_and_a_byte_puts_that_off() {
    let idle = Duration::from_millis(60);
    let (mut client, mut relay, mut backend) = stand(b"", idle).await;
    let begun = Instant::now();
    let talking = async {
        let mut last = Instant::now();
        while begun.elapsed() < 3 * idle {
            last = Instant::now();
            client.write_all(b"x").await.unwrap();
            backend.read_u8().await.unwrap();
            backend.write_all(b"x").await.unwrap();
            client.read_u8().await.unwrap();
        }
        last
    };
    let relaying = async { (run(&mut relay).await, Instant::now()) };
    let (last, (end, ended)) = tokio::join!(talking, relaying);
    assert!(matches!(end, RelayEnd::Idle), "{end:?}");
    assert!(ended - last >= idle && ended - begun >= 3 * idle);
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_nobody_uses_ends_when_its_time_is_over() {
    let (_client, mut relay, _backend) = stand(b"", Duration::from_hours(1)).await;
    let started = Instant::now();
    assert!(matches!(run(&mut relay).await, RelayEnd::Idle));
    assert_eq!(started.elapsed(), Duration::from_hours(1));
}

#[tokio::test]
async fn the_backends_first_bytes_are_told_once() {
    let answers = Cell::new(0);
    let (mut client, mut relay, mut backend) = stand(b"hello", LONG).await;
    let talking = async {
        backend.read_exact(&mut [0; 5]).await.unwrap();
        assert_eq!(answers.get(), 0);
        for _ in 0..3 {
            backend.write_all(b"x").await.unwrap();
            client.read_u8().await.unwrap();
            assert_eq!(answers.get(), 1);
        }
        drop((client, backend));
    };
    let tell = || answers.set(answers.get() + 1);
    tokio::join!(relay.run(tell, |_| false), talking);
    assert_eq!(answers.get(), 1);
    // Nor a second time in a second run.
    relay.run(tell, |_| false).await;
    assert_eq!(answers.get(), 1);
}

#[tokio::test]
async fn a_pause_comes_when_nothing_is_held_and_the_rest_goes_on_elsewhere() {
    let (mut client, mut relay, mut backend) = stand(b"hello ", LONG).await;
    client.write_all(b"world").await.unwrap();
    let asked = RefCell::new(Vec::new());
    let checkpoint = |carried: &Carried| {
        asked.borrow_mut().push(*carried);
        carried.up == 11
    };
    assert!(matches!(relay.run(|| {}, checkpoint).await, Outcome::Paused));
    assert_eq!(asked.borrow().last(), Some(&Carried { up: 11, down: 0 }));
    let parts = relay.into_parts();
    assert_eq!((parts.prefix.len(), parts.answer.len()), (0, 0));
    let mut heard = [0; 11];
    backend.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello world");
    // Whoever took it over has read on both sides, and gives it back.
    let parts = Parts { prefix: Bytes::from_static(b"!"), answer: Bytes::from_static(b"?"), ..parts };
    let mut relay = Relay::from_parts(parts, LONG);
    let (end, heard, asked) =
        tokio::join!(run(&mut relay), converse(&mut client, b"", 1), converse(&mut backend, b"!", 2));
    assert!(matches!(end, RelayEnd::Closed), "{end:?}");
    assert_eq!((&*heard, &*asked), (&b"?!"[..], &b"!"[..]));
    assert_eq!(relay.carried(), Carried { up: 12, down: 2 });
}

#[tokio::test]
async fn no_pause_is_offered_while_bytes_are_held_or_a_side_has_ended() {
    let (mut client, mut relay, mut backend) = stand(b"", LONG).await;
    let offers = Cell::new(0);
    let offered = || offers.replace(0);
    let counting = |_: &Carried| {
        offers.set(offers.get() + 1);
        false
    };
    let talking = async {
        let piece = vec![1; MUCH];
        let mut sent = 0;
        // The backend reads nothing: at last the relay holds what its socket does not take.
        while let Ok(count) = tokio::time::timeout(Duration::from_millis(100), client.write(&piece)).await {
            sent += count.unwrap();
        }
        offered();
        // The other direction has its turns meanwhile.
        backend.write_all(b"x").await.unwrap();
        client.read_u8().await.unwrap();
        assert_eq!(offered(), 0, "bytes are held");
        let mut rest = vec![0; sent];
        backend.read_exact(&mut rest).await.unwrap();
        backend.write_all(b"x").await.unwrap();
        client.read_u8().await.unwrap();
        assert!(offered() > 0, "nothing is held any more");
        client.shutdown().await.unwrap();
        assert_eq!(backend.read(&mut rest).await.unwrap(), 0);
        offered();
        backend.write_all(b"x").await.unwrap();
        client.read_u8().await.unwrap();
        assert_eq!(offered(), 0, "the client has said all");
        drop(backend);
    };
    tokio::join!(relay.run(|| {}, counting), talking);
}

#[tokio::test]
async fn an_urgent_byte_is_no_end() {
    let (client, mut relay, mut backend) = stand(b"", LONG).await;
    let mut client = client;
    let talking = async {
        client.write_all(&vec![1; MUCH]).await.unwrap();
        let mut heard = vec![0; MUCH];
        backend.read_exact(&mut heard).await.unwrap();
        for _ in 0..10 {
            SockRef::from(&client).send_out_of_band(b"!").unwrap();
            client.write_all(&heard).await.unwrap();
            backend.read_exact(&mut heard).await.unwrap();
        }
        client.shutdown().await.unwrap();
        assert_eq!(backend.read(&mut heard).await.unwrap(), 0);
        backend.write_all(b"done").await.unwrap();
        drop(backend);
        receive(&mut client, 1).await
    };
    let (end, heard) = tokio::join!(run(&mut relay), talking);
    assert!(matches!(end, RelayEnd::Closed) && heard == b"done", "{end:?}");
    assert!(relay.up.has_spliced());
}

#[tokio::test]
async fn a_relay_ends_at_its_time_however_busy() {
    let (mut client, relay, mut backend) = stand(b"", LONG).await;
    let until = Instant::now() + Duration::from_millis(200);
    let mut relay = Relay { lifetime: Lifetime { idle: LONG, until: Some(until) }, ..relay };
    let (piece, mut room) = (vec![b'x'; 1 << 20], vec![0; 1 << 20]);
    let talking = async { while client.write_all(&piece).await.is_ok() {} };
    let listening = async { while backend.read(&mut room).await.is_ok_and(|count| count > 0) {} };
    let outcome = tokio::select! {
        end = timeout(LONG, run(&mut relay)) => end,
        _ = async { tokio::join!(talking, listening) } => unreachable!("the relay outlives its ends"),
    };
    assert!(matches!(outcome, Ok(RelayEnd::Expired)), "{outcome:?}");
}
