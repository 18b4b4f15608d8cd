//! Requests whose bodies and answers cross, byte for byte.

use super::*;

#[tokio::test]
async fn what_comes_of_a_body_behind_its_answer_is_no_request() {
    run(async {
        let rig = Rig::new().await;
        let (mut client, _serving) = rig.client();
        let head = format!("POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: {}\r\n\r\n", GET.len());
        client.write_all(head.as_bytes()).await.unwrap();
        let mut backend = rig.accept().await;
        read_to(&mut backend, "\r\n\r\n").await;
        backend.write_all(OK.as_bytes()).await.unwrap();
        read_to(&mut client, "ok").await;
        tokio::time::pause();
        sleep(conversation::PAUSE * 5).await;
        tokio::time::resume();
        // Whether the rest is still read or not is the backend's to say; but nothing of it is answered.
        let _ = client.write_all(format!("{GET}OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await;
        let mut answers = String::new();
        let read = async {
            while !answers.ends_with("\r\n\r\n") {
                match client.read_u8().await {
                    Ok(byte) => answers.push(char::from(byte)),
                    Err(_) => break,
                }
            }
        };
        soon(read).await;
        assert!(answers.is_empty() || answers.starts_with("HTTP/1.1 404"), "{answers}");
    })
    .await;
}

#[tokio::test]
async fn who_is_refused_is_not_told_to_go_on() {
    run(async {
        let rig = Rig::new().await;
        let (mut client, serving) = rig.client();
        let head = "POST /%00 HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        let answer = read_to(&mut client, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("connection: close\r\n"), "{answer}");
        drop(client);
        soon(serving).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_answer_is_not_lost_to_a_reset_of_a_client_that_sends_on() {
    const LENGTH: &str = "content-length: 8388608\r\n";
    run(async {
        let rig = Rig::new().await;
        for (target, lengths) in [("/%00", LENGTH.to_owned()), ("/", LENGTH.repeat(2))] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (client, server) =
                tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
            let (mut client, server) = (client.unwrap(), server.unwrap().0);
            let served = conversation::serve(Rc::new(rig.connection()), Rewound::new(Bytes::new(), server));
            let served = tokio::task::spawn_local(served);
            let head = format!("POST {target} HTTP/1.1\r\nhost: a\r\n{lengths}\r\n");
            client.write_all(head.as_bytes()).await.unwrap();
            // More than what any buffer on the way holds.
            soon(client.write_all(&vec![b'x'; 8 << 20])).await.unwrap();
            let mut answer = String::new();
            soon(client.read_to_string(&mut answer)).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
            drop(client);
            soon(served).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn an_upload_goes_on_behind_its_answer_for_as_long_as_it_moves() {
    run(async {
        let rig = Rig::new().await;
        let (mut client, _serving) = rig.client();
        client.write_all(b"POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 8\r\n\r\n").await.unwrap();
        let mut backend = rig.accept().await;
        read_to(&mut backend, "\r\n\r\n").await;
        backend.write_all(OK.as_bytes()).await.unwrap();
        read_to(&mut client, "ok").await;
        for byte in 0..8 {
            tokio::time::pause();
            tokio::time::advance(HTTP_IDLE / 3).await;
            tokio::time::resume();
            client.write_all(&[byte]).await.unwrap();
            assert_eq!(soon(backend.read_u8()).await.unwrap(), byte);
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_breaks_its_body_costs_others_no_connection() {
    run(async {
        let rig = Rig::new().await;
        let (mut clients, mut backends) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let (mut client, serving) = rig.client();
            client.write_all(GET.as_bytes()).await.unwrap();
            let mut backend = rig.accept().await;
            read_to(&mut backend, "\r\n\r\n").await;
            clients.push((client, serving));
            backends.push(backend);
        }
        for ((client, _), backend) in clients.iter_mut().zip(&mut backends) {
            backend.write_all(OK.as_bytes()).await.unwrap();
            read_to(client, "ok").await;
        }
        let (mut broken, _serving) = rig.client();
        let head = "POST / HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n";
        broken.write_all(format!("{head}zz\r\n").as_bytes()).await.unwrap();
        assert!(read_to(&mut broken, "\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        let [(client, _), _] = &mut clients[..] else { unreachable!("two") };
        client.write_all(GET.as_bytes()).await.unwrap();
        assert!(read_to(&mut backends[0], "\r\n\r\n").await.starts_with("GET"));
    })
    .await;
}
