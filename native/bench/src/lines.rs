//! Orders on standard input, answers on standard output, options `name=value`.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::mpsc::{Receiver, channel};

/// Read orders on a thread of their own; the end of the input ends the process.
pub fn orders() -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    receiver
}

/// Write one line; nobody there to read it ends the process.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// The command line.
pub struct Options(HashMap<String, String>);

impl Options {
    /// Read `name=value` words.
    pub fn read() -> Options {
        let words = std::env::args().skip(1);
        Options(
            words
                .filter_map(|word| word.split_once('=').map(|(a, b)| (a.into(), b.into())))
                .collect(),
        )
    }

    /// Return the text of `name`, if it was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Return the number of `name`, or `otherwise`.
    pub fn number(&self, name: &str, otherwise: u64) -> u64 {
        self.text(name).map_or(otherwise, |text| text.parse().expect("a whole number"))
    }
}
