// SPDX-License-Identifier: GPL-2.0

//! The fuzzers' corpus once more: what it holds must not come back, and each input cut short, made
//! longer and with every bit turned is as good as many that a fuzzer would try.

use l2tp_host::fuzz;
use std::{
    fs,
    path::Path, //
};

fn replay(name: &str, target: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let mut inputs: Vec<_> = fs::read_dir(dir)
        .expect("a corpus")
        .map(|entry| entry.expect("an input").path())
        .collect();
    inputs.sort();
    assert!(inputs.len() > 20, "{} inputs", inputs.len());
    for path in inputs {
        // Shown if something below fails.
        println!("{}", path.display());
        let input = fs::read(path).expect("an input");
        target(&input);
        for len in 0..input.len() {
            target(&input[..len]);
        }
        let longer = [&input[..], &[0x5a; 24]].concat();
        for mut input in [input, longer] {
            for bit in 0..input.len() * 8 {
                input[bit / 8] ^= 0x80 >> (bit % 8);
                target(&input);
                input[bit / 8] ^= 0x80 >> (bit % 8);
            }
        }
    }
}

#[test]
fn wire() {
    replay("wire", fuzz::wire);
}

#[test]
fn seq() {
    replay("seq", fuzz::seq);
}
