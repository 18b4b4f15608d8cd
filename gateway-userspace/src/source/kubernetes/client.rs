//! How the API server is reached, and as whom: by a kubeconfig, as kubectl is, or by a pod's service account.

use std::time::Duration;

use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

use crate::settings::ClusterArgs;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How often a server that says nothing is asked whether it is still there, and how long it may take to answer: a machine
/// that lost its power closes no connection.
const PING: Duration = Duration::from_secs(10);
/// What may be under way of one answer. Lists are large.
const WINDOW: u32 = 4 << 20;

/// Where the API server is, and as whom it is asked. The error says what was looked for.
pub async fn config(args: &ClusterArgs) -> anyhow::Result<Config> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    if let Some(path) = &args.kubeconfig {
        let named =
            |error: &dyn std::fmt::Display| anyhow::anyhow!("--kubeconfig {}: {error}", path.display());
        let read = Kubeconfig::read_from(path).map_err(|error| named(&error))?;
        return Config::from_custom_kubeconfig(read, &options).await.map_err(|error| named(&error));
    }
    if args.context.is_some() {
        return Ok(Config::from_kubeconfig(&options).await?);
    }
    Config::infer().await.map_err(|error| {
        anyhow::anyhow!(
            "no way to the API server: give --kubeconfig, or set KUBECONFIG; in a pod, mount a service account's token ({error})"
        )
    })
}

/// A client that asks everything over one connection (HTTP/2), which it finds out about when it is dead: for watches, of which
/// there may be hundreds. To be made on the runtime that it is used on.
pub fn multiplexing(config: &Config) -> anyhow::Result<Client> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_keepalive(Some(PING));
    connector.set_nodelay(true);
    let mut https =
        HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = name.clone().try_into()?;
        https = https.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name));
    }
    let client: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PING)
        .http2_initial_stream_window_size(WINDOW)
        .http2_initial_connection_window_size(2 * WINDOW)
        .build(https.enable_all_versions().wrap_connector(connector));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// Why the API server refused, or, in the words of what is at the bottom of it, why it was not reached.
pub(super) fn words(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return status.message.clone();
    }
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let words = causes.last().map(ToString::to_string).unwrap_or_default();
    // rustls has a page of its manual behind some.
    words.split(": https://").next().unwrap_or_default().to_owned()
}
