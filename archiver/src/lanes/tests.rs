use std::fs::File;
use std::io::{BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const MANY: u32 = 16;
/// A payload with this first byte fails, another one panics.
const BAD: u8 = 0xbb;

/// Adds up what it gets. `weight` bytes of text make its answers long.
#[derive(Default)]
struct Adder {
    open: Option<u32>,
    bytes: usize,
    weight: usize,
}

impl Lane for Adder {
    fn open(&mut self, number: u32, _: Segment, _: bool) -> Result<()> {
        assert_eq!(self.open.replace(number), None);
        self.bytes = 0;
        Ok(())
    }

    fn data(&mut self, payload: &[u8]) -> Result<()> {
        if payload.first() == Some(&BAD) {
            return Err(Error::corrupt_segment(self.open.unwrap_or_default(), "torn"));
        }
        self.bytes += payload.len();
        Ok(())
    }

    fn close(&mut self) -> Result<Value> {
        self.open = None;
        Ok(json!({"bytes": self.bytes, "text": "x".repeat(self.weight)}))
    }
}

fn adder(weight: usize) -> impl Fn() -> Result<Box<dyn Lane>> + Sync {
    move || Ok(Box::new(Adder { weight, ..Adder::default() }))
}

fn pipe() -> (File, File) {
    let (read, write) = rustix::pipe::pipe().unwrap();
    (read.into(), write.into())
}

fn open(number: u32) -> Value {
    let segment = json!({"kind": "files", "first": "YQ==", "last": "Yg==", "entries": 1});
    json!({"open": {"number": number, "segment": segment, "is_last": false}})
}

fn frames(lines: &[(Value, &[u8])]) -> Vec<u8> {
    let mut text = Vec::new();
    for (line, payload) in lines {
        write_frame(&mut text, line.clone(), payload).unwrap();
    }
    text
}

fn told(output: &[u8]) -> Vec<Value> {
    output
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

fn run(input: &[u8], threads: usize) -> (Result<()>, Vec<Value>) {
    let mut output = Vec::new();
    let result = run_lanes_or(input, &mut output, threads, adder(0), &|_| ());
    (result, told(&output))
}

fn run_alone(input: &[u8]) -> (Result<()>, Vec<Value>) {
    let mut output = Vec::new();
    let result = run_in_order(input, &mut output, &mut Adder::default());
    (result, told(&output))
}

/// As the parent: `MANY` tasks, each waits until a segment is wanted, and sends its own.
fn feed(input: File, wants: Receiver<()>, pieces: usize) {
    let input = Arc::new(Mutex::new(input));
    let wants = Arc::new(Mutex::new(wants));
    thread::scope(|scope| {
        for number in 1..=MANY {
            let (input, wants) = (input.clone(), wants.clone());
            scope.spawn(move || {
                wants.lock().unwrap().recv().unwrap();
                let send = |line, payload: &[u8]| write_frame(&mut *input.lock().unwrap(), line, payload).unwrap();
                send(open(number), b"");
                for _ in 0..pieces {
                    send(json!({"data": number}), &vec![1; 10_000 + number as usize]);
                }
                send(json!({"close": number}), b"");
            });
        }
    });
}

/// As the parent: passes on what is wanted, and gives back what is done.
fn listen(output: File, wants: &Sender<()>) -> Vec<(u64, u64)> {
    let mut output = BufReader::new(output);
    let mut done = Vec::new();
    while let Some(frame) = read_frame(&mut output).unwrap() {
        for _ in 0..frame.line["want"].as_u64().unwrap_or(0) {
            let _ = wants.send(());
        }
        if let Some(number) = frame.line["done"]["number"].as_u64() {
            done.push((number, frame.line["done"]["bytes"].as_u64().unwrap()));
        }
    }
    done.sort_unstable();
    done
}

fn many(threads: usize, weight: usize, pause: Duration) {
    const PIECES: usize = 20;
    let ((input, to_tool), (from_tool, output)) = (pipe(), pipe());
    let (send, wants) = channel();
    thread::scope(|scope| {
        scope.spawn(|| feed(to_tool, wants, PIECES));
        let listener = scope.spawn(move || {
            let mut from_tool = from_tool;
            let mut first = vec![0; format!("{}\n", json!({"want": threads})).len()];
            from_tool.read_exact(&mut first).unwrap();
            for _ in 0..threads {
                send.send(()).unwrap();
            }
            thread::sleep(pause);
            listen(from_tool, &send)
        });
        run_lanes_or(BufReader::new(input), output, threads, adder(weight), &|error| panic!("{error}")).unwrap();
        let all: Vec<_> = (1..=u64::from(MANY)).map(|number| (number, (10_000 + number) * PIECES as u64)).collect();
        assert_eq!(listener.join().unwrap(), all);
    });
}

#[test]
fn one_thread_serves_many_lanes() {
    many(1, 0, Duration::ZERO);
}

#[test]
fn several_threads_serve_many_lanes() {
    many(3, 0, Duration::ZERO);
    many(16, 0, Duration::ZERO);
}

#[test]
fn a_reader_that_stops_holds_all_back_and_loses_nothing() {
    for threads in [1, 4, 16] {
        many(threads, 100_000, Duration::from_millis(300)); // each answer is longer than the pipe
    }
}

#[test]
fn a_reader_that_is_gone_is_an_error() {
    let (from_tool, output) = pipe();
    drop(from_tool);
    let input = frames(&[(open(1), b""), (json!({"close": 1}), b"")]);
    let error = run_lanes_or(&input[..], output, 2, adder(0), &|_| ()).unwrap_err();
    assert_eq!(error.code, Code::MoverFailed);
}

#[test]
fn the_first_failure_wins_and_is_told_once() {
    let (input, mut to_tool) = pipe();
    let (failed, has_failed) = channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            let lines = [(open(1), &b""[..]), (open(2), b""), (json!({"data": 2}), &[BAD]), (json!({"data": 1}), b"x")];
            to_tool.write_all(&frames(&lines)).unwrap();
            // Nothing more comes, and the input stays open: only the failure itself can end this.
            assert_eq!(has_failed.recv().unwrap(), "segment 2: torn");
            drop(to_tool);
            assert!(has_failed.recv().is_err());
        });
        let tell = Mutex::new(failed);
        let error = run_lanes_or(BufReader::new(input), Vec::new(), 2, adder(0), &|error| {
            lock(&tell).send(error.message.clone()).unwrap();
        });
        drop(tell);
        let error = error.unwrap_err();
        assert_eq!((error.code, &error.details["segment"]), (Code::ArchiveCorrupt, &json!(2)));
    });
}

/// The process of the next test.
#[test]
#[ignore = "started by another test"]
fn fails_in_a_process() {
    let input = BufReader::new(std::io::stdin());
    run_lanes(input, std::io::stdout(), 2, adder(0)).unwrap();
}

#[test]
fn a_failure_ends_the_process_while_its_input_is_open() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["lanes::tests::fails_in_a_process", "--exact", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&frames(&[(open(7), b""), (json!({"data": 7}), &[BAD])])).unwrap();
    let status = child.wait().unwrap();
    drop(stdin);
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    let error: Value = serde_json::from_str(stderr.lines().last().unwrap()).unwrap();
    assert_eq!((status.code(), &error["error"]["code"]), (Some(3), &json!("ArchiveCorrupt")));
}

#[test]
fn what_was_not_asked_for_is_refused() {
    let end = (json!({"close": 1}), &b""[..]);
    for (lines, what) in [
        (vec![(open(1), &b""[..])], "the input ends within segment 1"),
        (vec![(json!({"data": 1}), b"x")], "segment 1 is not open"),
        (vec![end.clone()], "segment 1 is not open"),
        (vec![(open(1), b""), (open(1), b"")], "segment 1 was opened and not asked for"),
        (vec![(open(1), b""), (open(2), b""), (open(3), b"")], "segment 3 was opened and not asked for"),
        (vec![(open(1), b""), end.clone(), end], "segment 1 is not open"),
        (vec![(json!({"sing": 1}), b"")], "a frame that says neither open nor data nor close"),
        (vec![(json!({"open": {"number": 1}}), b"")], "a frame that says neither open nor data nor close"),
        (vec![(json!({"data": -1}), b"")], "a frame that says neither open nor data nor close"),
        (vec![(json!([1]), b"")], "a frame that says neither open nor data nor close"),
    ] {
        let error = run(&frames(&lines), 2).0.unwrap_err();
        assert_eq!((error.code, &error.message[..]), (Code::InvalidInput, what));
    }
}

#[test]
fn a_lane_that_cannot_be_made_is_an_error() {
    let make = || Err(Error::new(Code::Unsupported, "no walls"));
    let error = run_lanes_or(&b""[..], Vec::new(), 2, make, &|_| ()).unwrap_err();
    assert_eq!(error.code, Code::Unsupported);
}

#[test]
fn an_empty_input_ends_well() {
    let (result, told) = run(b"", 3);
    assert_eq!((result.is_ok(), told), (true, vec![json!({"want": 3})]));
}

#[test]
fn in_order_one_segment_is_open_at_a_time() {
    let lines = [
        (open(4), &b""[..]),
        (json!({"data": 4}), b"abc"),
        (json!({"close": 4}), b""),
        (open(5), b""),
        (json!({"close": 5}), b""),
    ];
    let (result, told) = run_alone(&frames(&lines));
    result.unwrap();
    assert_eq!(told[0], json!({"want": 1}));
    assert_eq!(told[1]["done"]["bytes"], 3);
    assert_eq!((&told[3]["done"]["number"], told.len()), (&json!(5), 5));
    for bad in [vec![(open(1), &b""[..]), (open(2), b"")], vec![(open(1), b"")], vec![(json!({"close": 1}), b"")]] {
        assert_eq!(run_alone(&frames(&bad)).0.unwrap_err().code, Code::InvalidInput);
    }
}

#[test]
fn a_stream_without_segment_comes_once() {
    let data = || (json!({"data": 0}), &b"abc"[..]);
    let close = || (json!({"close": 0}), &b""[..]);
    let (result, told) = run_alone(&frames(&[data(), data(), close()]));
    result.unwrap();
    assert_eq!(told[1]["done"]["bytes"], 6);
    run_alone(&frames(&[close()])).0.unwrap();
    for bad in [vec![data()], vec![close(), close()], vec![data(), close(), data()], vec![(open(0), b"")]] {
        assert_eq!(run_alone(&frames(&bad)).0.unwrap_err().code, Code::InvalidInput);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Segments that were asked for, their frames in any order between one another.
    #[test]
    fn any_order_of_frames_gets_on(threads in 1_usize..6, choices in prop::collection::vec((any::<usize>(), 0_usize..5), 0..200)) {
        let ((input, mut to_tool), (from_tool, output)) = (pipe(), pipe());
        let (send, wants) = channel();
        thread::scope(|scope| {
            let listener = scope.spawn(move || listen(from_tool, &send));
            let choices = &choices;
            let driver = scope.spawn(move || {
                let (mut open_now, mut next, mut sent) = (Vec::<(u64, u64)>::new(), 1, Vec::new());
                let mut say = |line, payload: &[u8]| write_frame(&mut to_tool, line, payload).unwrap();
                for (choice, what) in choices {
                    if *what == 0 && open_now.len() < threads {
                        wants.recv().unwrap();
                        say(open(next), b"");
                        open_now.push((u64::from(next), 0));
                        next += 1;
                    } else if !open_now.is_empty() {
                        let at = choice % open_now.len();
                        if *what == 1 {
                            say(json!({"close": open_now[at].0}), b"");
                            sent.push(open_now.swap_remove(at));
                        } else {
                            say(json!({"data": open_now[at].0}), &vec![1; choice % 70_000]);
                            open_now[at].1 += (choice % 70_000) as u64;
                        }
                    }
                }
                for one in open_now {
                    say(json!({"close": one.0}), b"");
                    sent.push(one);
                }
                sent.sort_unstable();
                sent
            });
            run_lanes_or(BufReader::new(input), output, threads, adder(0), &|error| panic!("{error}")).unwrap();
            assert_eq!(listener.join().unwrap(), driver.join().unwrap());
        });
    }
}
