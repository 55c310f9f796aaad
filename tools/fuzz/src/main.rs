// SPDX-License-Identifier: GPL-2.0

//! Sends the L2TP module what nobody should: requests, socket calls, packets; and everything at the
//! same time. Runs in a guest, as root.
//!
//! The work is done in rounds. Each has a process and namespaces of its own, and its numbers come
//! from the seed and its own number, so that `--seed S --round N` does what round N did, on its own;
//! with `--verbose` it says each operation before it does it. What a round has created it deletes at
//! the end, and looks whether it is gone.

mod netlink;
mod packets;
mod races;
mod random;
mod requests;
mod sockets;
mod sys;

use random::Random;
use std::{
    fmt::{
        self,
        Arguments,
        Write as _, //
    },
    fs,
    io::Write as _,
    process::exit,
    sync::atomic::{
        AtomicU64,
        AtomicU8,
        Ordering, //
    },
    time::{
        Duration,
        Instant, //
    }, //
};

const USAGE: &str = "\
usage: l2tp-fuzz requests|sockets|packets|races [OPTION]…

  --seed N      what to do is made of it (1)
  --count N     how many operations (10000)
  --seconds N   no longer than this
  --round N     only this round
  --tame        what C survives: no routes in circles, the module stays, closed sockets end tunnels
  --verbose     say each operation before it is done
";

/// No round takes that long; one that does hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// What one does, in one round.
type Mode = fn(&Round);

struct Options {
    seed: u64,
    count: u64,
    limit: Option<Duration>,
    round: Option<u64>,
    tame: bool,
    verbose: bool,
}

/// The last operations, where the parent sees them when the round has died.
struct Log {
    next: AtomicU64,
    done: AtomicU64,
    accepted: AtomicU64,
    lines: [[AtomicU8; Log::WIDTH]; Log::LINES],
}

impl Log {
    const LINES: usize = 48;
    const WIDTH: usize = 160;

    fn shared() -> &'static Log {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let address =
            sys::raw!(SYS_mmap, 0, size_of::<Log>(), protection, kind, -1, 0).expect("mmap");
        // SAFETY: New memory, zeroed, as large as that, which is never unmapped.
        unsafe { &*(address as *const Log) }
    }

    fn clear(&self) {
        self.next.store(0, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        self.accepted.store(0, Ordering::Relaxed);
    }

    fn add(&self, line: &str) {
        let slot = self.next.fetch_add(1, Ordering::Relaxed) as usize % Self::LINES;
        let bytes = line.bytes().take(Self::WIDTH - 1).chain([0]);
        for (cell, byte) in self.lines[slot].iter().zip(bytes) {
            cell.store(byte, Ordering::Relaxed);
        }
    }

    fn print(&self) {
        let next = self.next.load(Ordering::Relaxed);
        for number in next.saturating_sub(Self::LINES as u64)..next {
            let cells = self.lines[number as usize % Self::LINES].iter();
            let line: Vec<u8> = cells
                .map(|cell| cell.load(Ordering::Relaxed))
                .take_while(|b| *b != 0)
                .collect();
            println!("  {}", String::from_utf8_lossy(&line));
        }
    }
}

/// Bytes in a log line, quickly: every operation writes one.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";

        for byte in &self.0[..self.0.len().min(64)] {
            out.write_char(DIGITS[usize::from(byte >> 4)].into())?;
            out.write_char(DIGITS[usize::from(byte & 15)].into())?;
        }
        Ok(())
    }
}

/// What a round is made of.
pub(crate) struct Round {
    seed: u64,
    number: u64,
    /// Whether to leave out what C does not survive.
    pub(crate) tame: bool,
    verbose: bool,
    log: &'static Log,
}

impl Round {
    /// Random numbers for one of the threads.
    pub(crate) fn random(&self, thread: u64) -> Random {
        Random::new(&[self.seed, self.number, thread])
    }

    /// Says what comes next.
    pub(crate) fn log(&self, what: Arguments<'_>) {
        let mut line = String::new();
        let _ = line.write_fmt(what);
        self.log.add(&line);
        if self.verbose {
            println!("  {line}");
        }
    }

    pub(crate) fn done(&self, operations: u64) {
        self.log.done.fetch_add(operations, Ordering::Relaxed);
    }

    /// How many the module did not refuse: without such ones, there is nothing to be broken.
    pub(crate) fn accepted(&self, operations: u64) {
        self.log.accepted.fetch_add(operations, Ordering::Relaxed);
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut name = String::new();
    let mut options = Options {
        seed: 1,
        count: 10000,
        limit: None,
        round: None,
        tame: false,
        verbose: false,
    };
    while let Some(arg) = args.next() {
        let mut number = || {
            args.next()
                .and_then(|text| text.parse().ok())
                .unwrap_or_else(|| usage())
        };
        match arg.as_str() {
            "--seed" => options.seed = number(),
            "--count" => options.count = number(),
            "--seconds" => options.limit = Some(Duration::from_secs(number())),
            "--round" => options.round = Some(number()),
            "--tame" => options.tame = true,
            "--verbose" => options.verbose = true,
            _ => name = arg,
        }
    }
    let mode: Mode = match name.as_str() {
        "requests" => requests::run,
        "sockets" => sockets::run,
        "packets" => packets::run,
        "races" => races::run,
        _ => usage(),
    };
    rounds(&name, mode, &options);
}

fn usage() -> ! {
    eprint!("{USAGE}");
    exit(2)
}

fn rounds(name: &str, mode: Mode, options: &Options) {
    let log = Log::shared();
    let begun = Instant::now();
    let (mut done, mut accepted, mut number) = (0, 0, options.round.unwrap_or(0));
    println!("{name}: seed {}", options.seed);
    loop {
        log.clear();
        let round = Round {
            seed: options.seed,
            number,
            tame: options.tame,
            verbose: options.verbose,
            log,
        };
        let outcome = in_child(&round, mode);
        done += log.done.load(Ordering::Relaxed);
        accepted += log.accepted.load(Ordering::Relaxed);
        if let Err(why) = outcome {
            println!(
                "{name}: seed {} round {number} {why}; its last operations:",
                options.seed
            );
            log.print();
            exit(1);
        }
        println!(
            "{name}: seed {} round {number}, {done} done, {accepted} accepted in {:.1} s",
            options.seed,
            begun.elapsed().as_secs_f64()
        );
        number += 1;
        let late = options.limit.is_some_and(|limit| begun.elapsed() > limit);
        if done >= options.count || late || options.round.is_some() {
            break;
        }
    }
}

/// Runs the round in a process of its own.
fn in_child(round: &Round, mode: Mode) -> Result<(), String> {
    std::io::stdout().flush().expect("stdout");
    // SAFETY: This process has one thread.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        mode(round);
        let _ = std::io::stdout().flush();
        exit(0);
    }
    let deadline = Instant::now() + LIMIT;
    loop {
        let mut status = 0i32;
        if sys::raw!(SYS_wait4, pid, &mut status as *mut i32, libc::WNOHANG, 0) == Ok(pid.into()) {
            return if status == 0 {
                Ok(())
            } else {
                Err(format!("ended with status {status:#x}"))
            };
        }
        if Instant::now() > deadline {
            stacks(pid);
            let _ = sys::raw!(SYS_kill, pid, libc::SIGKILL);
            return Err("hangs".to_owned());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Where in the kernel each thread of the process is.
fn stacks(pid: i32) {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    for task in tasks {
        let stack = fs::read_to_string(task.path().join("stack")).unwrap_or_default();
        println!("{}:\n{stack}", task.path().display());
    }
}

/// Waits for what is done later.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
