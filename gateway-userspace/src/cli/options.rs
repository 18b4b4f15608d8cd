//! Options that several commands have, under one name and with one meaning.

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::table;

/// How rows are shown.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct FormArgs {
    /// Form of the output.
    #[arg(short, long, value_enum, value_name = "FORM", default_value_t = Output::Table)]
    pub output: Output,
    /// Leave out the headings of tables.
    #[arg(long)]
    pub no_headers: bool,
}

/// `-o` of commands that show rows, or a page of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    #[value(alias = "text")]
    Table,
    /// More columns, where there are more.
    Wide,
    /// For programs: all that is known.
    Json,
    /// The same.
    Yaml,
}

/// `-o` of commands that tell something in sentences.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum TextOutput {
    /// For people.
    #[default]
    #[value(aliases = ["table", "wide"])]
    Text,
    /// For programs: all that is known.
    Json,
    /// The same.
    Yaml,
}

impl Output {
    /// A value in this form, of which `people` makes that for people.
    pub(super) fn render<T: Serialize>(self, value: &T, people: impl FnOnce() -> String) -> Result<String> {
        match self {
            Self::Table | Self::Wide => Ok(people()),
            Self::Json => json(value),
            Self::Yaml => yaml(value),
        }
    }
}

impl TextOutput {
    /// A value in this form, of which `people` makes that for people.
    pub(super) fn render<T: Serialize>(self, value: &T, people: impl FnOnce() -> String) -> Result<String> {
        match self {
            Self::Text => Ok(people()),
            Self::Json => json(value),
            Self::Yaml => yaml(value),
        }
    }
}

impl FormArgs {
    /// A table with its headings, or without.
    pub(super) fn table(self, columns: &[&str], rows: &[Vec<String>]) -> String {
        let text = table::render(columns, rows.iter().map(Vec::as_slice));
        match text.split_once('\n') {
            Some((_, rows)) if self.no_headers => rows.to_owned(),
            _ => text,
        }
    }
}

fn json<T: Serialize>(value: &T) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

fn yaml<T: Serialize>(value: &T) -> Result<String> {
    Ok(serde_saphyr::to_string(value)?.trim_end().to_owned() + "\n")
}

/// Whether what is shown has colours.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct ColorArgs {
    /// Colours: `auto` has them on a terminal, unless NO_COLOR is set or TERM is `dumb`.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub color: Color,
}

/// `--color`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless the environment says otherwise (<https://no-color.org>).
    #[default]
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

impl ColorArgs {
    /// Whether to write colours to what is a terminal, or none.
    pub(super) fn on(self, is_terminal: bool) -> bool {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        match self.color {
            Color::Auto => is_terminal && !is_set("NO_COLOR") && !is_dumb,
            Color::Always => true,
            Color::Never => false,
        }
    }
}
