//! Command lines in blocks of shell, as far as what is called and with which words has to be known.

/// A command with its words.
pub type Command = Vec<String>;

/// All commands of a block, those within `$(…)` and behind pipes too. Words that a shell would take for another thing
/// (redirections, `&`) are left out.
pub fn commands(block: &str) -> Vec<Command> {
    let joined = block.replace("\\\n", " ");
    let lines = without_here_documents(&joined);
    lines.iter().flat_map(|line| split(line)).collect()
}

/// The lines, but for what stands between `<<EOF` and `EOF`.
fn without_here_documents(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut until = None;
    for line in text.lines() {
        if let Some(end) = until {
            if line.trim() == end {
                until = None;
            }
            continue;
        }
        until = line.split_once("<<").map(|(_, end)| end.split_whitespace().next().unwrap_or_default());
        until = until.map(|end| end.trim_matches(['\'', '"']));
        lines.push(line);
    }
    lines
}

fn split(line: &str) -> Vec<Command> {
    let line = line.replace("$(", " ; ").replace(')', " ; ").replace("; then", " ;").replace("; do", " ;");
    let Some(words) = shlex::split(&line.replace(';', " ; ")) else { return Vec::new() };
    let mut found: Vec<Command> = vec![Vec::new()];
    for word in words {
        match word.as_str() {
            "|" | "||" | "&&" | ";" | "&" => found.push(Vec::new()),
            _ => found.last_mut().expect("one has begun").push(word),
        }
    }
    found.into_iter().map(plain).filter(|words| !words.is_empty()).collect()
}

/// Without assignments before the name, and without redirections.
fn plain(words: Command) -> Command {
    let is_assignment = |word: &String| {
        word.split_once('=').is_some_and(|(name, _)| !name.is_empty() && name.bytes().all(is_of_a_name))
    };
    let mut out = Vec::new();
    let mut skips = false;
    for word in words.into_iter().skip_while(is_assignment) {
        if std::mem::take(&mut skips) {
            continue;
        }
        let redirects = word.trim_start_matches(|c: char| c.is_ascii_digit());
        if redirects.starts_with(['>', '<']) {
            skips = matches!(redirects, ">" | "<" | ">>");
            continue;
        }
        out.push(word);
    }
    out
}

fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found() {
        let block = "A=1 sluice run --config a \\\n  --tier copy > log 2>&1 &\n# no command\n\
                     sluice flows | grep -c 'a b' # the rest\nx=$(sluice status)\ncat > f <<EOF\nsluice nonsense\nEOF\n";
        let found: Vec<String> = commands(block).iter().map(|words| words.join(" ")).collect();
        assert_eq!(
            found,
            ["sluice run --config a --tier copy", "sluice flows", "grep -c a b", "sluice status", "cat"]
        );
    }
}
