//! What is known of an agent: its latest readings, what has become of the rates, and what the panes list.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::asking::{More, Sample};
use super::rates::Rates;
use crate::admin::counters::Counters;
use crate::admin::dump::{Item, Kind};
use crate::admin::view::Status;
use crate::cli::flows::reading::Reading;
use crate::cli::flows::row::FlowRow;

/// Readings whose requests percentiles are of: one alone has too few.
const READINGS: usize = 10;
/// Rates that are remembered, for as many columns.
const HISTORY: usize = 240;
/// How long it is said that an agent has been replaced.
const SAID: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Default)]
pub(super) struct State {
    /// Of one process, the latest last.
    recent: VecDeque<(Instant, Counters)>,
    /// The latest last.
    pub(super) history: VecDeque<Rates>,
    /// Configuration by kind, as of the latest listing.
    items: BTreeMap<&'static str, Vec<Item>>,
    flows_before: Option<Reading>,
    /// Flows with their rates.
    pub(super) flows: Vec<FlowRow>,
    /// What of the flows could not be read.
    pub(super) unread: Vec<String>,
    /// What the agent says of itself.
    pub(super) status: Option<Status>,
    /// Why what a pane shows could not be had.
    failure: Option<String>,
    lost: Option<(Instant, String)>,
    replaced: Option<(Instant, String)>,
}

impl State {
    /// Takes an answer in.
    pub(super) fn take(&mut self, sample: Sample, now: Instant) {
        match sample.counters {
            Ok(counters) => self.count(counters, now),
            Err(why) => {
                // The first line says it; what to do is told where no agent was ever there.
                let why = why.lines().next().unwrap_or_default().to_owned();
                let since = self.lost.take().map_or(now, |(since, _)| since);
                self.lost = Some((since, why));
            }
        }
        self.failure = None;
        match sample.more {
            None => {}
            Some(Ok(More::Items(all))) => {
                self.items.extend(all.into_iter().map(|(kind, items)| (kind.name(), items)));
            }
            Some(Ok(More::Status(status))) => self.status = Some(*status),
            Some(Ok(More::Flows(reading))) => {
                self.flows = reading.since(self.flows_before.as_ref().unwrap_or(&reading));
                self.unread.clone_from(&reading.unread);
                self.flows_before = Some(reading);
            }
            Some(Err(why)) if self.lost.is_none() => self.failure = Some(why),
            Some(Err(_)) => {}
        }
    }

    fn count(&mut self, counters: Counters, now: Instant) {
        self.lost = None;
        if let Some((_, before)) = self.recent.back().filter(|(_, it)| it.process != counters.process) {
            let words = format!(
                "another agent has taken over: process {} (sluice {}), before it {} ({}); it counts from 0",
                counters.process, counters.version, before.process, before.version
            );
            self.replaced = Some((now, words));
            self.recent.clear();
            self.flows_before = None;
        }
        if let Some((at, before)) = self.recent.back() {
            self.history.push_back(Rates::between(before, &counters, now.saturating_duration_since(*at)));
        }
        self.recent.push_back((now, counters));
        while self.recent.len() > READINGS {
            self.recent.pop_front();
        }
        while self.history.len() > HISTORY {
            self.history.pop_front();
        }
    }

    /// The latest counters.
    pub(super) fn counters(&self) -> Option<&Counters> {
        self.recent.back().map(|(_, counters)| counters)
    }

    /// The latest counters, those before them, and the time between; the same twice where there are no others.
    pub(super) fn step(&self) -> Option<(&Counters, &Counters, Duration)> {
        let (now, counters) = self.recent.back()?;
        let (then, before) = self.recent.iter().rev().nth(1).unwrap_or(&self.recent[0]);
        Some((before, counters, now.saturating_duration_since(*then)))
    }

    /// The counters that percentiles begin at.
    pub(super) fn oldest(&self) -> Option<&Counters> {
        self.recent.front().map(|(_, counters)| counters)
    }

    /// The latest rates.
    pub(super) fn rates(&self) -> Rates {
        self.history.back().copied().unwrap_or_default()
    }

    /// What was listed of a kind.
    pub(super) fn listed(&self, kind: Kind) -> &[Item] {
        self.items.get(kind.name()).map_or(&[], Vec::as_slice)
    }

    /// Whether an agent answered last.
    pub(super) fn is_connected(&self) -> bool {
        self.lost.is_none()
    }

    /// What the user is to know of the readings themselves.
    pub(super) fn notice(&self, now: Instant) -> Option<String> {
        if let Some((since, why)) = &self.lost {
            let seconds = now.saturating_duration_since(*since).as_secs();
            return Some(format!("no answer for {seconds} s, trying again: {why}"));
        }
        let replaced = self.replaced.as_ref().filter(|(at, _)| now.saturating_duration_since(*at) < SAID);
        replaced.map(|(_, words)| words.clone()).or_else(|| self.failure.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(process: u32, refused: u64) -> Sample {
        let counters = Counters { process, refused, version: "0.1.0".to_owned(), ..Counters::default() };
        Sample { counters: Ok(counters), more: None }
    }

    #[test]
    fn another_agent_is_told_of_and_its_counters_begin_anew() {
        let (mut state, start) = (State::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        state.take(of(1, 100), start);
        state.take(of(1, 110), after(1));
        assert!((state.rates().refused - 10.0).abs() < 1e-9);
        let lost = Sample { counters: Err("it is gone\nstart one".to_owned()), more: None };
        state.take(lost, after(2));
        assert_eq!(state.notice(after(5)).as_deref(), Some("no answer for 3 s, trying again: it is gone"));
        assert!(!state.is_connected());
        state.take(of(2, 500), after(6));
        let said = state.notice(after(6)).expect("a notice");
        assert!(said.contains("process 2") && said.contains("before it 1"), "{said}");
        assert_eq!(state.history.len(), 1, "nothing is made of two agents' counters");
        state.take(of(2, 502), after(7));
        assert!((state.rates().refused - 2.0).abs() < 1e-9);
        assert_eq!(state.notice(after(60)), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut state, start) = (State::default(), Instant::now());
        for second in 0..1000 {
            state.take(of(1, second), start + Duration::from_secs(second));
        }
        assert_eq!((state.history.len(), state.recent.len()), (HISTORY, READINGS));
    }
}
