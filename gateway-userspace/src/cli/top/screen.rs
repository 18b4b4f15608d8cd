//! The terminal: taken over, drawn on, and given back, however the command ends. A thread asks the agent, so that keys are
//! heard while an answer is waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, raise};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::text::Text;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::app::{App, Effect};
use super::asking::{Asking, Sample};
use super::pane::Pane;
use super::state::State;
use super::view::{self, Look, Size};

/// How often answers and signals are looked for while no key is pressed.
const LOOK_AROUND: Duration = Duration::from_millis(50);
/// How often a frame says anew how long an agent has not been heard.
const DRAW_AGAIN: Duration = Duration::from_secs(1);

/// The terminal, which is given back when this is dropped; also where the program panics, by a hook of ratatui's.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> Result<Self> {
        ratatui::try_init()
            .map(Self)
            .context("the terminal cannot be drawn on: --batch 1 prints a frame as text")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What the asking thread is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Ask for this pane at once, and then at every interval.
    Watch(Pane),
    /// Ask for it once.
    Once(Pane),
    /// Ask for nothing.
    Pause,
}

/// Draws until the user or a signal ends it.
pub(super) fn run(asking: Asking, state: State, app: App, interval: Duration, look: Look) -> Result<()> {
    // They end the loop, which gives the terminal back; by themselves they would leave it as it is.
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, ended.clone()).context("a signal cannot be waited for")?;
    }
    let (wishes, wished) = mpsc::channel();
    let (answers, answered) = mpsc::channel();
    let pane = app.pane;
    // It ends with the process: an answer that is waited for keeps nobody.
    drop(std::thread::spawn(move || ask(asking, pane, interval, &wished, &answers)));
    let screen = Screen::take()?;
    Session { screen, state, app, look, wishes, answered, drawn: None }.run(&ended)
}

fn ask(
    mut asking: Asking,
    pane: Pane,
    interval: Duration,
    wishes: &Receiver<Wish>,
    answers: &Sender<Sample>,
) {
    let mut wish = Wish::Watch(pane);
    loop {
        let next = match wish {
            Wish::Watch(_) => wishes.recv_timeout(interval),
            Wish::Once(_) | Wish::Pause => wishes.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match next {
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
            // Who walks through the panes wants none but the last.
            Ok(next) => wish = wishes.try_iter().last().unwrap_or(next),
        }
        if let Wish::Watch(pane) | Wish::Once(pane) = wish
            && answers.send(asking.read(pane)).is_err()
        {
            return;
        }
    }
}

struct Session {
    screen: Screen,
    state: State,
    app: App,
    look: Look,
    wishes: Sender<Wish>,
    answered: Receiver<Sample>,
    drawn: Option<Instant>,
}

impl Session {
    fn run(mut self, ended: &AtomicBool) -> Result<()> {
        while !ended.load(Ordering::Relaxed) {
            for sample in self.answered.try_iter() {
                self.state.take(sample, Instant::now());
                self.drawn = None;
            }
            if self.drawn.is_none_or(|at| at.elapsed() >= DRAW_AGAIN) {
                self.draw()?;
            }
            if event::poll(LOOK_AROUND)? && self.take(&event::read()?)? == Effect::Quit {
                break;
            }
        }
        Ok(())
    }

    fn draw(&mut self) -> Result<()> {
        let Self { screen, state, app, look, .. } = self;
        let (look, now) = (*look, Instant::now());
        screen.0.draw(|frame| {
            let area = frame.area();
            let size = Size { width: area.width.into(), height: area.height.into() };
            let drawn = view::frame(state, app, size, look, now);
            (app.first, app.room) = (drawn.first, drawn.room);
            frame.render_widget(Text::from(drawn.lines), area);
        })?;
        self.drawn = Some(now);
        Ok(())
    }

    fn take(&mut self, event: &Event) -> Result<Effect> {
        self.drawn = None;
        let Event::Key(key) = event else { return Ok(Effect::Draw) };
        if key.kind == KeyEventKind::Release {
            return Ok(Effect::Draw);
        }
        let effect = self.app.press(*key);
        match effect {
            Effect::Draw | Effect::Quit => {}
            Effect::Ask if self.app.is_paused => self.wish(Wish::Once(self.app.pane)),
            Effect::Ask => self.wish(Wish::Watch(self.app.pane)),
            Effect::Pause => self.wish(Wish::Pause),
            Effect::Clear => self.screen.0.clear()?,
            Effect::Suspend => self.suspend()?,
        }
        Ok(effect)
    }

    fn wish(&self, wish: Wish) {
        // Where nobody asks any more there is nobody to tell.
        let _ = self.wishes.send(wish);
    }

    /// As Ctrl-Z does in cooked mode.
    fn suspend(&mut self) -> Result<()> {
        ratatui::restore();
        raise(Signal::SIGSTOP).context("the program cannot be stopped")?;
        self.screen.0 = ratatui::try_init()?;
        Ok(self.screen.0.clear()?)
    }
}
