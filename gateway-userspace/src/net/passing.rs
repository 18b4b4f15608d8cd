//! Giving descriptors to another process over a unix socket (`SCM_RIGHTS`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Descriptors of one message; the kernel takes 253 (`SCM_MAX_FD`).
const AT_ONCE: usize = 64;

/// What descriptors come with: the kernel passes none without a byte.
const BYTE: u8 = b'.';

/// Gives copies of descriptors, in order.
pub async fn send(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    for some in descriptors.chunks(AT_ONCE) {
        stream
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !control.push(SendAncillaryMessage::ScmRights(some)) {
                    return Err(io::Error::other("too many descriptors at once"));
                }
                Ok(sendmsg(stream, &[IoSlice::new(&[BYTE])], &mut control, SendFlags::NOSIGNAL)?)
            })
            .await?;
    }
    Ok(())
}

/// Takes so many.
pub async fn receive(stream: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let some = stream.async_io(Interest::READABLE, || receive_some(stream.as_fd())).await?;
        if some.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        taken.extend(some);
    }
    Ok(taken)
}

/// Those of one message; none at the end.
fn receive_some(stream: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let (mut byte, mut space) = ([0], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))]);
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let messages = control.drain();
    let descriptors = messages.filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(descriptors.flatten().collect())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn many_descriptors_arrive_in_order() {
        let (one, other) = UnixStream::pair().unwrap();
        let sockets: Vec<_> = (0..150).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let borrowed: Vec<_> = sockets.iter().map(std::os::fd::AsFd::as_fd).collect();
        let (sent, received) = tokio::join!(send(&one, &borrowed), receive(&other, sockets.len()));
        sent.unwrap();
        let received: Vec<_> = received.unwrap().into_iter().map(TcpListener::from).collect();
        for (sent, received) in sockets.iter().zip(&received) {
            assert_eq!(sent.local_addr().unwrap(), received.local_addr().unwrap());
        }
    }

    #[tokio::test]
    async fn an_end_in_between_is_an_error() {
        let (one, other) = UnixStream::pair().unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        send(&one, &[socket.as_fd()]).await.unwrap();
        drop(one);
        assert_eq!(receive(&other, 2).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
