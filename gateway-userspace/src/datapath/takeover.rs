//! What an agent before this one left in the kernel: its flows go on, its tables are kept if they fit, and steer nothing
//! new if this agent cannot take them over.

use std::path::Path;
use std::time::{Duration, Instant};

use gateway_common::Config;

use super::maps::{self, Maps, MapsError};
use super::pin::{Lock, PinError, Pins};
use super::plane::{self, Unavailable};
use super::ports::PortRange;
use super::speaking::{self, Speaking};
use super::{attach, interfaces, load, stats};
use crate::settings::KernelArgs;

/// How often an agent that is to stop is looked after.
const AGAIN: Duration = Duration::from_millis(5);

/// Takes the pin directory, and leaves the flows of other versions to themselves. Another agent's is waited for, as long as
/// `patience`.
pub(super) fn take(pins: &Pins, patience: Duration) -> Result<Lock, Unavailable> {
    let lock = lock(pins, patience)?.ok_or_else(|| Unavailable::InUse(pins.root().to_owned()))?;
    pins.others().iter().for_each(|other| step_back(other));
    Ok(lock)
}

fn lock(pins: &Pins, patience: Duration) -> Result<Option<Lock>, PinError> {
    let latest = Instant::now() + patience;
    loop {
        let lock = pins.lock()?;
        if lock.is_some() || Instant::now() >= latest {
            return Ok(lock);
        }
        std::thread::sleep(AGAIN);
    }
}

/// Has the programs of an agent that this one cannot take over open no new flow. Flows that there are go on by the
/// programs and maps of their own, which stay attached; nothing is interrupted.
fn step_back(directory: &Path) {
    let shown = directory.display();
    match maps::stop_opening(directory) {
        Ok(()) => tracing::warn!(
            directory = %shown,
            "flows of an agent before this one go on by its own programs; when they have ended, stop this agent and run \
             `sluice cleanup`, which removes them (and this version's)"
        ),
        Err(error) => tracing::error!(
            directory = %shown, %error,
            "an agent before this one still steers new flows; `sluice cleanup` before a start removes it, and cuts its \
             flows"
        ),
    }
}

/// Removes tables that cannot be used as they are and that nobody uses: this agent makes them anew. With flows in them
/// they stay.
pub(super) fn renew(pins: &Pins, args: &KernelArgs, ports: PortRange) -> Result<(), Unavailable> {
    let now = stats::monotonic();
    let open = match Maps::open(&pins.maps()) {
        Ok(open) => open,
        // Left by an agent that died before it attached anything.
        Err(MapsError::Missing { .. }) if pins.linked().is_empty() => return Ok(pins.clear()?),
        // Loading says what is wrong with them.
        Err(_) => return Ok(()),
    };
    let config = open.config()?;
    if plane::namespace_now()? != config.namespace && config.port_count != 0 {
        return Ok(());
    }
    let Some(difference) = difference(&config, args, ports) else { return Ok(()) };
    if !open.is_in_use(now) {
        // A flow that begins right now is not to be cut.
        maps::stop_opening(&pins.maps())?;
        if !open.is_in_use(now) {
            return Ok(pins.clear()?);
        }
    }
    tracing::warn!(
        "tables of an agent before this one stay as they are while flows are in them: {difference}"
    );
    Ok(())
}

/// In which way tables are not those that this agent would make.
fn difference(config: &Config, args: &KernelArgs, ports: PortRange) -> Option<String> {
    let flows = load::flows(args.max_flows);
    if config.port_count == 0 {
        Some("not finished".to_owned())
    } else if config.flows != flows {
        Some(format!("room for {} flows instead of {flows} (--max-flows)", config.flows))
    } else if (config.first_port, config.port_count) != (ports.first.into(), ports.count.into()) {
        Some(format!(
            "{} source ports from {} on (ip_local_port_range)",
            config.port_count, config.first_port
        ))
    } else {
        None
    }
}

/// For an agent that serves without a kernel plane: new flows are its own, whatever one before it steered by documents
/// that are no longer in force. What nobody uses is removed. An agent that is running is left alone, once it has been waited
/// for as long as `patience`.
pub(super) fn leave(pins: &Pins, patience: Duration) {
    // Whoever is not root cannot look, and has left nothing.
    if !pins.exist().unwrap_or(false) {
        return;
    }
    match lock(pins, patience) {
        Ok(Some(_lock)) => {
            pins.others().iter().for_each(|other| step_back(other));
            if let Err(error) = leave_own(pins) {
                let directory = pins.maps();
                tracing::error!(directory = %directory.display(), %error, "what is pinned there stays as it is");
            }
        }
        Ok(None) => {}
        Err(error) => tracing::error!(%error, "cannot tell whether another agent is running"),
    }
}

fn leave_own(pins: &Pins) -> Result<(), Unavailable> {
    let directory = pins.maps();
    if !directory.exists() {
        return Ok(());
    }
    let open = match Maps::open(&directory) {
        Ok(open) => open,
        Err(MapsError::Missing { .. }) if pins.linked().is_empty() => return Ok(pins.remove_own()?),
        Err(_) => {
            step_back(&directory);
            return Ok(());
        }
    };
    let config = open.config()?;
    // Those of another network namespace are another gateway's.
    if config.port_count != 0 && config.namespace != plane::namespace_now()? {
        return Ok(());
    }
    maps::stop_opening(&directory)?;
    if open.is_in_use(stats::monotonic()) {
        step_back(&directory);
        return Ok(());
    }
    remove(pins)?;
    Ok(())
}

/// Removes what an agent's stop has left for the sake of its connections, which are over: all of it if there is no flow,
/// else what only connections needed. Whoever has the directory by now sees to it.
pub(super) fn finish(pins: &Pins, args: &KernelArgs) -> Result<(), Unavailable> {
    let Some(_lock) = pins.lock()? else { return Ok(()) };
    if !pins.maps().exists() {
        return Ok(());
    }
    let mut maps = Maps::open(&pins.maps())?;
    if maps.going_on(stats::monotonic()) == 0 {
        return Ok(remove(pins)?);
    }
    Ok(Speaking::adopt(&maps, args.mark)?.end(&mut maps)?)
}

/// Removes this version's programs and maps from the kernel.
pub(super) fn remove(pins: &Pins) -> Result<(), PinError> {
    pins.remove_own()?;
    speaking::remove_rules();
    // Without a list of interfaces there are no filters to be found either.
    let _ = interfaces::list().map(|found| attach::detach_clsact(&found));
    Ok(())
}
