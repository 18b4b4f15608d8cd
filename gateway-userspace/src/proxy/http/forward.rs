//! A request's way to a backend and the response's way back.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue, SET_COOKIE};
use http::{Request, Response, StatusCode, Version};

use super::body::ResponseBody;
use super::deadline::{Times, of_request};
use super::facts::Facts;
use super::mirror::Copies;
use super::outgoing::{self, Address, Target};
use super::record::Notes;
use super::rescue::Rescue;
use super::serve::Connection;
use super::tries::Order;
use super::{affinity, headers, upgrade};
use crate::model::{Cluster, Forward, UpstreamProtocol};
use crate::proxy::error::RequestError;
use crate::upstream::{ClientBody, Ended, Upload, UpstreamBody};
use crate::wire::Switching;

/// What tracers call the request.
const DECORATOR: HeaderName = HeaderName::from_static("x-envoy-decorator-operation");
pub(super) const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// Sends a request to the one that was chosen of its route's destinations. Response headers are the caller's business.
pub(super) async fn forward(
    facts: &Facts<'_>,
    (action, chosen): (&Forward, usize),
    target: Target,
    request: Box<Request<ClientBody>>,
    notes: &Notes,
) -> Result<Response<ResponseBody>, RequestError> {
    let Facts { connection, exchange, asker, route, .. } = facts;
    let cluster = action.destinations[chosen].cluster.clone().ok_or(RequestError::NoCluster)?;
    let destination_headers = action.destination_headers.get(chosen);
    let upgrade = upgrade::wanted(exchange, request.headers());
    let is_grpc = headers::is_grpc(request.headers());
    // HTTP/1.1 has upgrades, whatever the client asks for one by.
    let client_speaks_http2 = request.version() == Version::HTTP_2 && upgrade.is_none();
    let times = Times::of(action, request.headers(), is_grpc);

    let (head, incoming) = request.into_parts();
    // As the request was.
    let mut head = Box::new(head);
    headers::remove_upgrade(&mut head.headers);
    head.headers.insert(DECORATOR, route.operation.clone());
    let of_destination = destination_headers.map(|(operations, _)| operations);
    facts.apply_to_request(of_destination, &mut head, &target);
    times.tell(&mut head.headers, is_grpc);
    let address = Address::of(&head, route, action, (&target, chosen))?;
    address.tell_original(&mut head, &target);
    let line = (address.path_and_query().path(), address.path_and_query().query(), address.authority());
    facts.keep(destination_headers.map(|(_, response)| response), (&head.method, &head.headers), line);

    let policy = action.retries.as_ref();
    let protocol = cluster.speaks(client_speaks_http2);
    let streams = protocol == UpstreamProtocol::Http2;
    let repeats = policy.is_some_and(|policy| policy.repeats_what_was_sent(streams, is_grpc));
    let copies = if upgrade.is_some() { Copies::default() } else { Copies::draw(action) };
    let is_held = repeats || !copies.is_empty();
    let upload = Upload::new(incoming, is_held.then(|| connection.shared.pool.room()));
    let has_changed = route.request_headers.is_some() || of_destination.is_some();
    notes.forwarded((&head, &address), has_changed, upload.pace());
    exchange.reads(upload.pace());
    copies.send(connection, (&head, &address, client_speaks_http2), (times.whole, &upload.ended()));
    let kept = affinity::of(&cluster.affinity, &head, &address, asker.address.ip());
    let opening = connection.opening(&cluster, address.authority(), protocol)?;
    address.write(&mut head, &cluster, protocol)?;
    outgoing::frame(&mut head, &upload.size_hint());
    if upgrade.is_some() {
        upgrade::ask(&mut head.headers);
    }
    let rescue = Rescue::of(policy, &cluster, (&head.method, upload.size_hint().exact()), upgrade.is_some());
    let order = Order {
        connection,
        cluster: &cluster,
        key: kept.key,
        opening: &opening,
        policy,
        times,
        upload: &upload,
        repeats,
        rescue,
        is_copied: !copies.is_empty(),
        is_upgrade: upgrade.is_some(),
        notes,
    };
    let mut response = order.send(head).await?;
    if let Some(cookie) = kept.cookie {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    // An upgrade has no end of its request, to Envoy.
    if upgrade.is_none()
        && let Some(time) = upload.since_end()
    {
        response.headers_mut().insert(SERVICE_TIME, HeaderValue::from(milliseconds(time)));
    }
    let time = times.whole.map(|whole| (whole, upload.ended()));
    Ok(respond(connection, &cluster, response, upgrade, time))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn respond(
    connection: &Connection,
    cluster: &Arc<Cluster>,
    mut response: Response<UpstreamBody>,
    upgrade: Option<Switching>,
    time: Option<(Duration, Ended)>,
) -> Response<ResponseBody> {
    // The version is ours to say; a backend that speaks HTTP/1.0 would end the client's connection with it.
    *response.version_mut() = Version::HTTP_11;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return upgrade::switch(connection, cluster, response, upgrade);
    }
    let mut response = response.map(|body| {
        ResponseBody::Upstream(match time {
            // From the request's end, if that comes behind the head of the response.
            Some((time, ended)) => body.until(of_request(time, ended)),
            None => body,
        })
    });
    headers::remove_hop_by_hop(response.headers_mut());
    response
}
