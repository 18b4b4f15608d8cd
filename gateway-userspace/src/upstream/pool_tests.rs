//! What a pool keeps of what is idle.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::super::stream::UpstreamStream;
use super::*;
use crate::model::UpstreamProtocol;

/// Has a pool keep an idle connection to each of so many endpoints, a second apart, the first the oldest. Their other ends
/// must be held.
async fn fill(pool: &Pool, cluster: &Cluster, endpoints: u16) -> Vec<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let listens = listener.local_addr().expect("an address");
    let mut ends = Vec::new();
    for port in 0..endpoints {
        let ours = TcpStream::connect(listens).await.expect("a connection");
        let theirs = listener.accept().await.expect("a connection").0;
        let address = SocketAddr::from(([10, 0, 0, 1], port));
        let channel = Channel::new(UpstreamStream::Plain(ours));
        let spot = Spot { address, opening: Opening::default() };
        let origin = pool.origin((&cluster.name, &spot));
        let seat = Seat::new(origin.borrow().crowd.clone(), None);
        let connection = Connection::new(channel, (cluster, &spot, &origin), seat);
        Returnable { pool: pool.clone(), connection: Box::new(connection) }.keep();
        ends.push(theirs);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    ends
}

#[tokio::test(start_paused = true)]
async fn those_idle_for_the_longest_time_make_room() {
    let test = async {
        let name = ClusterName { host: "a".into(), port: 80, subset: None };
        let cluster = Cluster::new(name, UpstreamProtocol::Http1, Vec::new());
        for (idle, most, surplus, want) in
            [(10, 10, 2, 0..10), (10, 8, 0, 2..10), (10, 8, 3, 5..10), (10, 0, 0, 10..10), (0, 0, 0, 0..0)]
        {
            let pool = Pool::default();
            let _ends = fill(&pool, &cluster, idle).await;
            assert_eq!(pool.0.idle.get(), usize::from(idle));
            pool.trim(most, surplus);
            let origins = pool.0.origins.borrow();
            let of_spot = |(spot, origin): (&Spot, &Rc<RefCell<Origin>>)| {
                vec![spot.address.port(); origin.borrow().idle.len()]
            };
            let mut left: Vec<u16> = origins.values().flatten().flat_map(of_spot).collect();
            left.sort_unstable();
            assert_eq!(left, want.clone().collect::<Vec<_>>(), "{idle} idle, {most} may be");
            assert_eq!(pool.0.idle.get(), left.len());
        }
    };
    LocalSet::new().run_until(test).await;
}
