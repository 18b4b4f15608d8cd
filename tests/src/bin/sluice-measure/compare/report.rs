//! The figures for machines.

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::{Column, Row, Section, Sheet};
use crate::figures::{least, median, most};

/// All that was measured, round by round.
pub(super) fn report(sheet: &Sheet<'_>) -> Result<Value> {
    let mut all = sheet.further.clone();
    all.extend(machine()?);
    all.insert("command".to_owned(), json!(sheet.command));
    all.insert("rounds".to_owned(), json!(sheet.rounds));
    all.insert("seconds".to_owned(), json!(sheet.seconds));
    all.insert("others_percent".to_owned(), json!(sheet.others));
    all.insert("contenders".to_owned(), sheet.rows.iter().map(|row| contender(sheet, row)).collect());
    Ok(json!({ sheet.name: all }))
}

/// What figures depend on.
fn machine() -> Result<Map<String, Value>> {
    let facts = json!({
        "kernel": std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        "processors": std::thread::available_parallelism()?.get(),
        "processor": field(&std::fs::read_to_string("/proc/cpuinfo")?, "model name"),
        "memory": field(&std::fs::read_to_string("/proc/meminfo")?, "MemTotal"),
    });
    Ok(facts.as_object().cloned().unwrap_or_default())
}

/// The first `name: value` of a file of /proc.
fn field(text: &str, name: &str) -> Option<String> {
    let of = |line: &str| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    };
    text.lines().find_map(of)
}

fn contender(sheet: &Sheet<'_>, row: &Row<'_>) -> Value {
    let mut figures = Map::new();
    for section in &sheet.sections {
        for column in section.columns.iter().filter(|column| !row.figures.of(column.key).is_empty()) {
            figures.insert(column.key.to_owned(), figure(sheet, section, column, row));
        }
    }
    json!({
        "name": row.name,
        "version": row.version,
        "command": row.command,
        "configuration": row.configuration,
        "figures": figures,
    })
}

fn figure(sheet: &Sheet<'_>, section: &Section, column: &Column, row: &Row<'_>) -> Value {
    let rounds = row.figures.of(column.key);
    let mut value = json!({
        "rounds": rounds,
        "median": median(rounds),
        "least": least(rounds),
        "most": most(rounds),
        "command": section.command,
    });
    if let Some(base) = sheet.base().filter(|_| column.ratio) {
        value["ratio_to_routed"] = json!(median(rounds) / median(base.figures.of(column.key)));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn a_field_is_the_first_of_its_name() {
        let text = "processor\t: 0\nmodel name\t: Some\nmodel name\t: Other\n";
        assert_eq!(field(text, "model name").as_deref(), Some("Some"));
        assert_eq!(field(text, "model"), None);
    }
}
