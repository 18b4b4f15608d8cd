//! The dashboard: how soon it is seen, and what it costs a gateway of ten thousand routes to be looked at.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use harness::browser::{Browser, Page};
use harness::cpu::Spent;
use harness::gateway::Gateway;
use harness::mesh::{Mesh, ROUTES};
use harness::port;
use serde_json::{Value, json};

use crate::figures::{least, median, most};

/// VirtualServices: ten thousand routes, each with two conditions.
const VIRTUAL_SERVICES: usize = 10_000 / ROUTES;
/// Pages that are open at once, each of another view.
const VIEWS: [&str; 3] = ["topology", "flows", "planes"];
/// How long they are looked at.
const LOOKED_AT: Duration = Duration::from_secs(30);

/// Milliseconds to the first paint, and the share of a core.
pub(crate) fn run(rounds: usize) -> Result<(String, Value)> {
    let admin = SocketAddr::from(([127, 0, 0, 1], port::free()));
    let admin_flag = admin.to_string();
    let arranged = Gateway::arrange().flags(&["--admin-address", &admin_flag]);
    let mesh = Mesh::of(VIRTUAL_SERVICES);
    let gateway =
        mesh.files().fold(arranged, |arranged, (name, text)| arranged.document(&name, &text)).start();
    let paints = first_paints(rounds, admin)?;
    let idle = share(gateway.pid())?;
    let browser = Browser::start();
    let pages: Vec<_> = VIEWS
        .iter()
        .map(|view| {
            let page = browser.page();
            page.open(&format!("http://{admin}/#{view}"));
            page
        })
        .collect();
    let looked_at = share(gateway.pid())?;
    let questions: usize = pages.iter().map(|page| page.requested().len()).sum();
    let mut table = String::new();
    let (middle, low, high) = (median(&paints), least(&paints), most(&paints));
    writeln!(
        table,
        "first paint on loopback         {middle:6.1} ms ({low:.1}, {high:.1}), {rounds} new browsers"
    )?;
    writeln!(table, "agent, nobody looks             {:6.2} % of a core", idle * 100.0)?;
    writeln!(table, "agent, {} pages poll it          {:6.2} % of a core", pages.len(), looked_at * 100.0)?;
    writeln!(table, "questions of these pages        {questions:6}")?;
    let numbers = json!({
        "first_paint_ms": paints, "idle_share": idle, "looked_at_share": looked_at, "pages": pages.len(),
        "virtual_services": VIRTUAL_SERVICES,
    });
    Ok((table, json!({ "dashboard": numbers })))
}

fn first_paints(rounds: usize, admin: SocketAddr) -> Result<Vec<f64>> {
    let one = |_| {
        let browser = Browser::start();
        let page = browser.page();
        page.open(&format!("http://{admin}/"));
        first_paint(&page)
    };
    (0..rounds).map(one).collect()
}

fn first_paint(page: &Page<'_>) -> Result<f64> {
    let painted =
        "performance.getEntriesByType('paint').find((it) => it.name == 'first-contentful-paint')?.startTime";
    page.until("something to be painted", painted).as_f64().context("a time")
}

/// Of a core, in the time that pages are looked at.
fn share(process: u32) -> Result<f64> {
    let (begun, before) = (Instant::now(), Spent::now(&[process])?);
    std::thread::sleep(LOOKED_AT);
    let spent = Spent::now(&[process])?.since(&before);
    Ok(spent.own / begun.elapsed().as_secs_f64())
}
