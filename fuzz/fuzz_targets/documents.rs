//! Whatever stands in documents, they are read and translated without a panic, in bounded time, and findings can be shown on a
//! terminal. The second half of the documents may come later, or go again: the meaning of all is the same.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sluice_fuzz::api::{Diagnostic, Object, Objects, Position, read_document, render, split};
use sluice_fuzz::model::GatewayIdentity;
use sluice_fuzz::translate::{Surroundings, Translation, Translator, translate};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let file: Arc<str> = "fuzzed.yaml".into();
    let readings: Vec<_> =
        split(text).into_iter().flat_map(|chunk| read_document(&file, chunk, "default")).collect();
    let mut objects: Vec<Object> = Vec::new();
    for reading in readings {
        reading.diagnostics.iter().for_each(|diagnostic| check(diagnostic, text));
        objects.extend(reading.object);
    }
    let all: Arc<Objects> = Arc::new(objects.iter().cloned().collect());
    let some: Arc<Objects> = Arc::new(objects.into_iter().step_by(2).collect());
    let mut surroundings = Surroundings::of(GatewayIdentity::default());
    surroundings.learn(&all);
    let anew = translate(&all, &surroundings, 1);
    anew.diagnostics.iter().for_each(|diagnostic| check(diagnostic, text));
    let mut translator = Translator::default();
    for (objects, generation) in [(&some, 0), (&all, 1)] {
        let translation = translator.translate(objects, &surroundings, generation);
        if generation == 1 {
            assert_eq!(shown(&translation), shown(&anew));
        }
    }
});

fn shown(translation: &Translation) -> (String, String) {
    let snapshot = serde_json::to_string(&translation.snapshot).expect("a snapshot is JSON");
    (snapshot, format!("{:?} {:?}", translation.names, translation.diagnostics))
}

/// It names a line that is there, and has no control characters for the terminal.
fn check(diagnostic: &Diagnostic, text: &str) {
    let related = diagnostic.related.iter().filter_map(|related| related.position.as_ref());
    // An end of a line that nothing follows begins one that is empty.
    let lines = text.split(['\r', '\n']).count();
    for Position { line, column, .. } in diagnostic.position.iter().chain(related) {
        assert!((1..=lines).contains(&(*line as usize)) && *column > 0, "{line}:{column} of {lines} lines");
    }
    let rendered = render(diagnostic, false);
    assert!(
        !rendered.contains(|character: char| character.is_control() && character != '\n'),
        "{rendered:?}"
    );
    assert!(!diagnostic.to_string().contains(char::is_control), "{diagnostic:?}");
}
