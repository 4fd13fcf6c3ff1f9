use std::fs;
use std::io::Write;

use super::*;

fn written(lines: &[String]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = beside(&directory.path().join("journal.db"), 1);
    fs::create_dir(path.parent().unwrap()).unwrap();
    let mut file = zstd::Encoder::new(fs::File::create(&path).unwrap(), 1).unwrap();
    for line in lines {
        writeln!(file, "{line}").unwrap();
    }
    file.finish().unwrap();
    (directory, path)
}

fn says(text: &str) -> String {
    format!(r#"{{"type":"assistant","message":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#)
}

fn uses(id: &str, command: &str) -> String {
    format!(
        r#"{{"type":"assistant","message":{{"content":[{{"type":"tool_use","id":"{id}","name":"Bash","input":{{"command":"{command}"}}}}]}}}}"#
    )
}

fn ended(id: &str, is_error: bool) -> String {
    format!(
        r#"{{"type":"user","message":{{"content":[{{"type":"tool_result","tool_use_id":"{id}","is_error":{is_error},"content":"x"}}]}}}}"#
    )
}

fn used(what: &str, result: Option<ToolResult>) -> Doing {
    Doing::Used {
        tool: "Bash".to_owned(),
        what: what.to_owned(),
        result,
    }
}

#[test]
fn what_the_agent_did_is_told_in_order_and_its_tools_are_counted() {
    let secret = format!("ghp_{}", "a1B2".repeat(9));
    let (_directory, path) = written(&[
        says("I will look."),
        uses("1", "ls"),
        ended("1", false),
        uses("2", &format!("echo {secret}")),
        ended("2", true),
        uses("3", "make"),
        "and plain words".to_owned(),
    ]);
    let told = read(&path).unwrap().unwrap();
    assert_eq!(
        told.first,
        [
            Doing::Said("I will look.".to_owned()),
            used("ls", Some(ToolResult::Succeeded)),
            used("echo ghp_[redacted]", Some(ToolResult::Failed)),
            used("make", None),
        ]
    );
    assert_eq!(told.tools["Bash"], Uses { times: 3, failed: 1 });
    assert_eq!(told.plain.trim_end(), "and plain words");
    assert!(!told.cut && told.left_out == 0);
}

#[test]
fn of_a_long_one_the_beginning_and_the_end_are_kept() {
    let lines: Vec<String> = (0..1_000).map(|n| says(&n.to_string())).collect();
    let (_directory, path) = written(&lines);
    let told = read(&path).unwrap().unwrap();
    assert_eq!((told.first.len(), told.last.len()), (FIRST, LAST));
    assert_eq!(told.left_out, 1_000 - (FIRST + LAST) as u64);
    assert_eq!(told.first[0], Doing::Said("0".to_owned()));
    assert_eq!(told.last[LAST - 1], Doing::Said("999".to_owned()));
}

#[test]
fn one_that_was_cut_is_read_as_far_as_it_goes_and_one_that_is_absent_is_none() {
    let lines: Vec<String> = (0..20_000)
        .map(|n| says(&format!("{n} {}", n * 7_919 % 10_007)))
        .collect();
    let (directory, path) = written(&lines);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let told = read(&path).unwrap().unwrap();
    assert!(told.first.len() == FIRST && told.left_out > 100, "{told:?}");
    fs::remove_file(&path).unwrap();
    assert!(read(&path).unwrap().is_none());
    // What is no file of its own is not read.
    let other = directory.path().join("other");
    fs::write(&other, &bytes).unwrap();
    std::os::unix::fs::symlink(&other, &path).unwrap();
    assert!(read(&path).is_err());
}

#[test]
fn of_one_without_end_no_more_is_read_than_the_bound() {
    let (_directory, path) = written(&[format!("{{\"x\":\"{}\"}}", "y".repeat(1024 * 1024))]);
    let one = fs::read(&path).unwrap();
    // Frames one after the other are one stream.
    let many: Vec<u8> = one.iter().copied().cycle().take(one.len() * 300).collect();
    fs::write(&path, many).unwrap();
    assert!(read(&path).unwrap().unwrap().cut);
}
