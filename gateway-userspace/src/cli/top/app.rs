//! What the user has chosen, and what keys do to it. Nothing here knows a terminal or an agent.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::pane::Pane;
use super::tables;

/// Characters of a filter.
const LONGEST_FILTER: usize = 200;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct App {
    /// Which pane is in sight.
    pub(super) pane: Pane,
    /// Of each pane.
    sorts: [Sort; Pane::ALL.len()],
    /// Only rows with this text.
    pub(super) filter: String,
    /// Whether keys are taken for the filter.
    pub(super) is_typing: bool,
    /// Whether nothing is asked for.
    pub(super) is_paused: bool,
    /// Whether the keys are told.
    pub(super) helps: bool,
    /// The first row that is shown.
    pub(super) first: usize,
    /// Rows that the latest frame had room for.
    pub(super) room: usize,
}

/// How a pane is sorted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sort {
    /// `None`: as the agent lists rows.
    pub(super) column: Option<usize>,
    /// The other way round.
    pub(super) is_reversed: bool,
}

/// What is to be done about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing but another frame.
    Draw,
    /// Another pane needs other answers, or answers are wanted again.
    Ask,
    /// Nothing is to be asked for.
    Pause,
    /// Draw everything anew.
    Clear,
    /// Give the terminal back for a while.
    Suspend,
    /// End.
    Quit,
}

impl App {
    /// At a pane, sorted by the column whose heading begins as given. The error names the columns.
    pub(super) fn new(pane: Pane, sort: Option<&str>, filter: &str) -> Result<Self, String> {
        let mut sorts = Pane::ALL.map(|pane| Sort { column: tables::first_sort(pane), is_reversed: false });
        if let Some(name) = sort {
            sorts[pane.index()].column = Some(column_of(pane, name)?);
        }
        Ok(Self {
            pane,
            sorts,
            filter: filter.chars().take(LONGEST_FILTER).collect(),
            is_typing: false,
            is_paused: false,
            helps: false,
            first: 0,
            room: 0,
        })
    }

    /// How the pane in sight is sorted.
    pub(super) fn sort(&self) -> Sort {
        self.sorts[self.pane.index()]
    }

    /// Takes a key.
    pub(super) fn press(&mut self, key: KeyEvent) -> Effect {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c' | 'd') => Effect::Quit,
                KeyCode::Char('z') => Effect::Suspend,
                KeyCode::Char('l') => Effect::Clear,
                _ => Effect::Draw,
            };
        }
        if self.is_typing {
            return self.type_filter(key.code);
        }
        if self.helps {
            self.helps = false;
            return if key.code == KeyCode::Char('q') { Effect::Quit } else { Effect::Draw };
        }
        match key.code {
            KeyCode::Char('q') => Effect::Quit,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => {
                self.helps = true;
                Effect::Draw
            }
            KeyCode::Tab | KeyCode::Right => self.show(self.pane.after(1)),
            KeyCode::BackTab | KeyCode::Left => self.show(self.pane.after(Pane::ALL.len() - 1)),
            KeyCode::Char('/') => {
                self.is_typing = true;
                Effect::Draw
            }
            KeyCode::Esc => {
                self.filter.clear();
                self.first = 0;
                Effect::Draw
            }
            KeyCode::Char('p' | ' ') => {
                self.is_paused = !self.is_paused;
                if self.is_paused { Effect::Pause } else { Effect::Ask }
            }
            KeyCode::Char('s') => self.sort_by_next(),
            KeyCode::Char('r') => {
                let sort = &mut self.sorts[self.pane.index()];
                sort.is_reversed = !sort.is_reversed;
                Effect::Draw
            }
            KeyCode::Char(digit @ '1'..='9') => {
                Pane::of_key(digit).map_or(Effect::Draw, |pane| self.show(pane))
            }
            other => self.scroll(other),
        }
    }

    fn type_filter(&mut self, key: KeyCode) -> Effect {
        match key {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(typed) if self.filter.chars().count() < LONGEST_FILTER => self.filter.push(typed),
            _ => {}
        }
        self.first = 0;
        Effect::Draw
    }

    fn show(&mut self, pane: Pane) -> Effect {
        self.pane = pane;
        self.first = 0;
        Effect::Ask
    }

    /// Behind the last column comes the order in which the agent lists rows.
    fn sort_by_next(&mut self) -> Effect {
        let columns = tables::columns(self.pane).len();
        let sort = &mut self.sorts[self.pane.index()];
        let next = sort.column.map_or(0, |column| column + 1);
        *sort = Sort { column: (next < columns).then_some(next), is_reversed: false };
        Effect::Draw
    }

    fn scroll(&mut self, key: KeyCode) -> Effect {
        let page = self.room.max(1);
        self.first = match key {
            KeyCode::Up | KeyCode::Char('k') => self.first.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.first.saturating_add(1),
            KeyCode::PageUp => self.first.saturating_sub(page),
            KeyCode::PageDown => self.first.saturating_add(page),
            KeyCode::Home | KeyCode::Char('g') => 0,
            // A frame has no rows behind its last.
            KeyCode::End | KeyCode::Char('G') => usize::MAX,
            _ => self.first,
        };
        Effect::Draw
    }
}

fn column_of(pane: Pane, name: &str) -> Result<usize, String> {
    let columns = tables::columns(pane);
    let wanted = name.to_uppercase();
    let exact = columns.iter().position(|column| column.name == wanted);
    exact.or_else(|| columns.iter().position(|column| column.name.starts_with(&wanted))).ok_or_else(|| {
        let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
        match names.as_slice() {
            [] => "the overview has no columns to sort by: choose another pane with --pane".to_owned(),
            names => format!("--sort: the pane {} has no column `{name}`: {}", pane.name(), names.join(", ")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressed(app: &mut App, keys: &[KeyCode]) -> Effect {
        let press = |key: &KeyCode| app.press(KeyEvent::new(*key, KeyModifiers::NONE));
        keys.iter().map(press).last().expect("a key")
    }

    fn app() -> App {
        App::new(Pane::Overview, None, "").expect("no column is named")
    }

    #[test]
    fn keys_choose_panes_columns_and_rows() {
        use KeyCode::{BackTab, Char, Down, End, Home, PageDown, Tab};
        let mut app = app();
        assert_eq!((pressed(&mut app, &[Char('3')]), app.pane), (Effect::Ask, Pane::Clusters));
        assert_eq!((pressed(&mut app, &[Tab]), app.pane), (Effect::Ask, Pane::Endpoints));
        pressed(&mut app, &[BackTab, BackTab, BackTab, BackTab]);
        assert_eq!(app.pane, Pane::Findings);
        assert_eq!(app.sort(), Sort::default());
        pressed(&mut app, &[Char('s')]);
        assert_eq!(app.sort().column, Some(0));
        pressed(&mut app, &[Char('s'), Char('r')]);
        assert_eq!(app.sort(), Sort { column: Some(1), is_reversed: true });
        pressed(&mut app, &[Char('s')]);
        assert_eq!(app.sort(), Sort::default(), "behind the last column");
        app.room = 10;
        pressed(&mut app, &[Down, PageDown]);
        assert_eq!(app.first, 11);
        pressed(&mut app, &[End]);
        assert_eq!(app.first, usize::MAX);
        pressed(&mut app, &[Down, Home]);
        assert_eq!(app.first, 0);
    }

    #[test]
    fn a_filter_is_typed_and_taken_back() {
        use KeyCode::{Backspace, Char, Enter, Esc};
        let mut app = app();
        pressed(&mut app, &[Char('/'), Char('q'), Char('x'), Backspace, Enter]);
        assert_eq!((app.filter.as_str(), app.is_typing), ("q", false));
        pressed(&mut app, &[Esc]);
        assert_eq!(app.filter, "");
        pressed(&mut app, &[Char('/')]);
        pressed(&mut app, &[Char('a'); 500]);
        assert_eq!(app.filter.len(), LONGEST_FILTER);
    }

    #[test]
    fn it_ends_by_q_and_by_ctrl_c_even_while_a_filter_is_typed() {
        let mut app = app();
        assert_eq!(pressed(&mut app, &[KeyCode::Char('q')]), Effect::Quit);
        pressed(&mut app, &[KeyCode::Char('/')]);
        assert_eq!(pressed(&mut app, &[KeyCode::Char('q')]), Effect::Draw);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(app.press(interrupt), Effect::Quit);
    }

    #[test]
    fn a_column_is_named_by_its_beginning_and_an_unknown_one_tells_which_there_are() {
        let sorted = |pane, name| App::new(pane, Some(name), "").map(|app| app.sort().column);
        assert_eq!(sorted(Pane::Clusters, "p99"), Ok(Some(5)));
        assert_eq!(sorted(Pane::Clusters, "end"), Ok(Some(8)));
        assert!(sorted(Pane::Clusters, "speed").unwrap_err().contains("REQ/S, 4XX/S"));
        assert!(sorted(Pane::Overview, "p99").unwrap_err().contains("--pane"));
    }
}
