//! `runner journal dump --format html` in a real Chromium (where `RUNNER_TEST_CHROMIUM` names one), as a person uses it, and
//! `--format mermaid` in the real Mermaid (where `RUNNER_TEST_MERMAID` names its `mermaid.min.js`).
//!
//! With `UPDATE_DOCS=1`, the pictures in the docs are made anew.

mod chromium;
mod runs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use chromium::{Chromium, Key, program};
use serde_json::{Value, json};

use crate::harness::whole;
use crate::journal_cli::{journal, text};

/// A journal as a page.
fn page(path: &Path, to: &Path) -> PathBuf {
    let page = to.join("page.html");
    let said = journal(&["dump", "--format", "html", "--output", text(&page), text(path)]);
    assert!(matches!(said.code, Some(0 | 1)), "{}", said.stderr);
    page
}

/// Nothing was asked for but the page itself, and nothing went wrong.
fn kept_to_itself(browser: &mut Chromium, page: &Path) {
    let requests = browser.requests();
    let itself = format!("file://{}", page.display());
    // A link into the page is no request of its own.
    assert!(
        !requests.is_empty() && requests.iter().all(|url| url.split('#').next() == Some(&itself)),
        "{requests:?}"
    );
    assert_eq!(browser.complaints(), [""; 0]);
}

/// The rows that are shown, by number.
fn shown(browser: &mut Chromium) -> Vec<u64> {
    let rows =
        browser.eval("[...document.querySelectorAll('.row:not([hidden])')].map((row) => Number(row.id.slice(1)))");
    serde_json::from_value(rows).unwrap()
}

/// The bars of the timeline: start, effect, how it ended.
fn bars(browser: &mut Chromium) -> Vec<(String, String, String)> {
    let bars = browser.eval(
        "[...document.querySelectorAll('svg.timeline a.bar')].map((bar) => \
         [bar.closest('.lane').dataset.boot, bar.dataset.effect, bar.dataset.end])",
    );
    serde_json::from_value(bars).unwrap()
}

/// Chooses in one of the filters, as a user's choice does.
fn choose(browser: &mut Chromium, filter: &str, value: &str) {
    browser.eval(&format!(
        "(() => {{ const by = document.getElementById({filter:?}); by.value = {value:?}; \
         by.dispatchEvent(new Event('change', {{bubbles: true}})); }})()"
    ));
}

/// Makes a picture of the docs anew, where that is asked for, with few colours: a third of the size, and nobody sees it.
fn keep_picture(name: &str, png: &[u8]) {
    assert!(
        png.starts_with(b"\x89PNG") && png.len() > 50_000,
        "{name}: {} bytes",
        png.len()
    );
    if std::env::var_os("UPDATE_DOCS").is_none() {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, png).unwrap();
    let fewer = Command::new("pngquant")
        .args(["--force", "--strip", "--ext", ".png", "96"])
        .arg(&path)
        .status();
    assert!(fewer.expect("pngquant is in PATH (Debian: pngquant)").success());
    let size = path.metadata().unwrap().len();
    assert!(size < 200_000, "{name}: {size} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_crashed_twice_is_read_clicked_searched_and_turned_dark() {
    let Some(program) = program() else { return };
    let made = runs::crashed_twice().await;
    let dir = tempfile::tempdir().unwrap();
    let page = page(&made.journal(), dir.path());
    let entries = made.bench.dump();
    let mut browser = Chromium::start(&program);
    browser.media("screen", "light");
    browser.open(&page);
    is_read(&mut browser, &made.outside.forge.pulls()[0].html_url);
    keep_picture("crashed-twice.png", &browser.picture("[aria-labelledby=h-agent]"));
    is_clicked(&mut browser, &entries);
    is_filtered(&mut browser, &entries);
    has_its_keys(&mut browser, &entries);
    is_dark_and_light(&mut browser, &page);
    fits_paper_and_telephone(&mut browser, &page);
    kept_to_itself(&mut browser, &page);
}

fn is_read(browser: &mut Chromium, pull: &str) {
    // The verdict in a sentence, with a link to what was done outside.
    let top = browser.text("document.querySelector('header').textContent");
    assert!(
        top.contains("✓ completed") && top.contains(pull) && top.contains("$0.31"),
        "{top}"
    );
    assert_eq!(browser.text("document.querySelector('header a').href"), pull);

    // A lane for each start, a bar for each attempt, and the crashes are to be seen.
    assert_eq!(
        browser.number("document.querySelectorAll('svg .lane[data-boot]').length"),
        3
    );
    let bars = bars(browser);
    let has = |boot: &str, effect: &str, end: &str| {
        let wanted = (boot.to_owned(), effect.to_owned(), end.to_owned());
        assert!(bars.contains(&wanted), "{wanted:?} in {bars:?}");
    };
    has("1", "clone", "done");
    has("1", "agent", "cut-off");
    has("2", "agent", "found-not-done");
    has("2", "agent", "done");
    has("2", "push", "cut-off");
    has("3", "push", "found-done");
    has("3", "report", "done");
    let legend = browser.text("document.querySelector('.legend').textContent");
    for word in ["✓ done", "⚡ cut off", "◆ looked for: done", "◇ looked for: not_done"] {
        assert!(legend.contains(word), "{word} in {legend}");
    }
    assert_eq!(browser.number("document.querySelectorAll('svg line.crash').length"), 2);

    // The agent's turns, tools and cost.
    let agent = browser.text("document.querySelector('section[aria-labelledby=h-agent]').textContent");
    for words in [
        "$0.3142",
        "Bash × 2",
        "make test",
        "The counter counts a retry twice",
        "18230",
    ] {
        assert!(agent.contains(words), "{words} in {agent}");
    }
}

fn is_clicked(browser: &mut Chromium, entries: &[Value]) {
    // A bar leads to its row, which opens; so does a row that is clicked.
    let row = browser.number("Number(document.querySelector('a.bar[data-end=cut-off]').dataset.row)");
    browser.click("a.bar[data-end=cut-off] .hit");
    browser.wait(&format!("document.querySelector('#r{row}').open"));
    browser.click("#r2 > summary");
    // It is laid out when it is told that it is open, a moment after it is.
    browser.wait("document.querySelector('#r2 > pre').textContent.includes('\\n')");
    let opened = browser.text("document.querySelector('#r2').innerText");
    let hash = entries[1]["hash"].as_str().unwrap();
    assert!(
        opened.contains(hash) && opened.contains("\"taskID\": \"t-1\""),
        "{opened}"
    );
    // As it is stored, on demand.
    browser.click("#r2 > .as");
    let stored = browser.text("document.querySelector('#r2 > pre').textContent");
    assert!(stored.contains("{\"taskID\":\"t-1\",\"apiURL\":"), "{stored}");
}

fn is_filtered(browser: &mut Chromium, entries: &[Value]) {
    let wanted = |kind: &str, boot: u64| -> Vec<u64> {
        let fits = entries.iter().filter(|row| row["kind"] == kind && row["boot"] == boot);
        fits.map(|row| row["seq"].as_u64().unwrap()).collect()
    };
    choose(browser, "by-kind", "intent");
    choose(browser, "by-boot", "2");
    assert_eq!(shown(browser), wanted("intent", 2));
    let count = browser.text("document.getElementById('count').textContent");
    assert_eq!(
        count,
        format!("{} of {} rows", wanted("intent", 2).len(), entries.len())
    );
}

fn has_its_keys(browser: &mut Chromium, entries: &[Value]) {
    browser.press(&Key("Escape", ""));
    browser.wait(&format!(
        "document.querySelectorAll('.row:not([hidden])').length === {}",
        entries.len()
    ));
    browser.press(&Key("/", "/"));
    assert_eq!(browser.text("document.activeElement.id"), "search");
    browser.type_in("pull_request nowhere-at-all");
    browser.wait("document.querySelectorAll('.row:not([hidden])').length === 0");
    browser.press(&Key("Escape", ""));
    browser.press(&Key("/", "/"));
    browser.type_in("PULL_REQUEST");
    let has_it = |row: &&Value| row.to_string().contains("pull_request");
    let expected: Vec<u64> = entries
        .iter()
        .filter(has_it)
        .map(|row| row["seq"].as_u64().unwrap())
        .collect();
    browser.wait(&format!(
        "document.querySelectorAll('.row:not([hidden])').length === {}",
        expected.len()
    ));
    assert_eq!(shown(browser), expected);
    browser.press(&Key("Escape", ""));
    browser.wait("document.activeElement === document.body");
    browser.press(&Key("j", "j"));
    browser.press(&Key("j", "j"));
    browser.press(&Key("j", "j"));
    browser.press(&Key("k", "k"));
    assert_eq!(browser.text("document.activeElement.parentElement.id"), "r2");
    assert_eq!(
        browser.eval(
            "document.activeElement.matches(':focus-visible') && getComputedStyle(document.activeElement).outlineStyle"
        ),
        "solid",
        "where the focus is can be seen"
    );
    browser.press(&Key("Enter", "\r"));
    browser.wait("!document.querySelector('#r2').open");
}

fn is_dark_and_light(browser: &mut Chromium, page: &Path) {
    let paper = "getComputedStyle(document.body).backgroundColor";
    let light = browser.text(paper);
    browser.press(&Key("d", "d"));
    let dark = browser.text(paper);
    assert_ne!(light, dark);
    browser.click("#theme");
    assert_eq!(browser.text(paper), light);
    browser.media("screen", "dark");
    browser.open(page);
    assert_eq!(browser.text(paper), dark, "as the system prefers it");
    browser.press(&Key("?", "?"));
    assert_eq!(browser.eval("document.getElementById('keys').open"), true);
    browser.press(&Key("Escape", ""));
}

fn fits_paper_and_telephone(browser: &mut Chromium, page: &Path) {
    // On paper it is light, and the controls are gone.
    browser.media("print", "dark");
    assert_eq!(
        browser.text("getComputedStyle(document.querySelector('.controls')).display"),
        "none"
    );
    assert_eq!(
        browser.text("getComputedStyle(document.documentElement).colorScheme"),
        "light"
    );

    // On a telephone nothing is wider than the screen.
    browser.media("screen", "light");
    browser.screen(390, 844);
    browser.open(page);
    assert_eq!(browser.number("document.documentElement.scrollWidth"), 390);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_timed_out_says_so_and_where_its_work_is() {
    let Some(program) = program() else { return };
    let made = runs::timed_out().await;
    let dir = tempfile::tempdir().unwrap();
    let page = page(&made.journal(), dir.path());
    let mut browser = Chromium::start(&program);
    browser.media("screen", "dark");
    browser.open(&page);
    let pull = made.outside.forge.pulls()[0].html_url.clone();
    let top = browser.text("document.querySelector('header').textContent");
    assert!(
        top.contains("failed") && top.contains("The agent ran out of time."),
        "{top}"
    );
    let whole = browser.text("document.body.textContent");
    assert!(
        whole.contains("What to do next") && whole.contains("Raise the bound"),
        "{whole}"
    );
    assert!(
        browser.eval(&format!("[...document.links].some((link) => link.href === {pull:?})")) == true,
        "where its work is"
    );
    let bars = bars(&mut browser);
    let ended = |effect: &str| bars.iter().find(|bar| bar.1 == effect).map(|bar| bar.2.clone());
    assert_eq!(ended("agent").as_deref(), Some("failed"), "{bars:?}");
    assert_eq!(ended("pull_request").as_deref(), Some("done"), "{bars:?}");
    keep_picture("timed-out.png", &browser.picture("[aria-labelledby=h-agent]"));

    // Without a script every row is there, opens, and it is said what is missing.
    browser.call("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    browser.open(&page);
    browser.click("#r2 > summary");
    browser.wait("document.querySelector('#r2').open");
    assert_eq!(
        browser.number("document.querySelectorAll('.row').length"),
        made.bench.dump().len() as u64
    );
    assert!(
        browser
            .text("document.querySelector('noscript').innerText")
            .contains("JavaScript")
    );
    assert_eq!(
        browser.eval("document.querySelector('.controls').checkVisibility()"),
        false
    );
    browser.call("Emulation.setScriptExecutionDisabled", &json!({"value": false}));
    kept_to_itself(&mut browser, &page);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_says_on_top_what_is_missing_and_shows_the_gap() {
    let Some(program) = program() else { return };
    let made = runs::crashed_twice().await;
    let dir = tempfile::tempdir().unwrap();
    let path = runs::damaged(&made.journal(), dir.path());
    let page = page(&path, dir.path());
    let mut browser = Chromium::start(&program);
    browser.media("screen", "light");
    browser.open(&page);
    let missing: Vec<u64> = {
        let there = shown(&mut browser);
        (1..=made.bench.dump().len() as u64)
            .filter(|seq| !there.contains(seq))
            .collect()
    };
    assert_eq!(missing.len(), 2, "{missing:?}");
    let damage = browser.text("document.querySelector('.damage').textContent");
    let gaps = browser.eval("[...document.querySelectorAll('.gap')].map((gap) => gap.textContent)");
    let lanes = browser.text("document.querySelector('svg.timeline').textContent");
    for row in &missing {
        assert!(
            damage.contains(&format!("row {row} is not what was written")),
            "{damage}"
        );
        assert!(gaps.to_string().contains(&format!("row {row} is not shown")), "{gaps}");
        assert!(lanes.contains(&format!("missing here: row {row}")), "{lanes}");
    }
    assert!(
        !browser
            .text("document.querySelector('h1').textContent")
            .contains("completed")
    );
    // What is said of the damage is above everything else, and the gap is between its neighbours.
    let before = browser.text("document.querySelector('.gap').previousElementSibling?.id ?? document.querySelector('.gap').parentElement.previousElementSibling.lastElementChild.id");
    assert_eq!(before, format!("r{}", missing[0] - 1));
    keep_picture("damaged.png", &browser.picture("[aria-labelledby=h-agent]"));
    kept_to_itself(&mut browser, &page);
}

#[test]
fn a_page_of_the_last_rows_alone_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = runs::unreachable(dir.path(), 10, |_| "away".to_owned());
    for format in ["html", "mermaid"] {
        let said = journal(&["dump", "--format", format, "--last", "3", text(&path)]);
        assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{}", said.stderr);
        assert!(
            said.stderr.contains("--last") && said.stderr.contains("hint: "),
            "{}",
            said.stderr
        );
    }
}

/// Generous: what is printed is what counts.
const SMOOTH_MS: f64 = 30_000.0;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_rows_stay_smooth() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let least = if whole() { 100_000 } else { 10_000 };
    let path = runs::unreachable(dir.path(), least, |attempt| {
        format!("failed to connect to 127.0.0.1:8081: connection refused, try {attempt}.")
    });
    let page = page(&path, dir.path());
    let mut browser = Chromium::start(&program);
    let begun = Instant::now();
    browser.open(&page);
    let rows = browser.number("document.querySelectorAll('.row').length");
    assert!(rows >= least, "{rows}");
    let opened = begun.elapsed().as_secs_f64() * 1e3;
    // From the change to the frame that shows it.
    let frame = |change: &str| {
        format!(
            "new Promise((done) => {{ const begun = performance.now(); {change}; \
             requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - begun))); }})"
        )
    };
    let mut took = vec![("opened", opened)];
    for (what, change) in [
        (
            "filtered",
            "const by = document.getElementById('by-kind'); by.value = 'outcome'; by.dispatchEvent(new Event('change'))",
        ),
        ("filter cleared", "document.getElementById('clear').click()"),
        (
            "searched",
            "const s = document.getElementById('search'); s.value = '\"try 4321.\"'; document.getElementById('by-kind').dispatchEvent(new Event('change'))",
        ),
        (
            "searched again",
            "document.getElementById('search').value = 'try 432.'; document.getElementById('by-kind').dispatchEvent(new Event('change'))",
        ),
        ("search cleared", "document.getElementById('clear').click()"),
    ] {
        took.push((what, browser.eval(&frame(change)).as_f64().unwrap()));
        if what == "searched" {
            assert_eq!(shown(&mut browser).len(), 1);
        }
    }
    assert_eq!(shown(&mut browser).len() as u64, rows);
    // Through the whole list, a screen at a time: how long the slowest frame took.
    let scrolled = browser.eval(
        "new Promise((done) => { document.documentElement.style.scrollBehavior = 'auto'; scrollTo(0, 0); \
         let slowest = 0, before = performance.now(), screens = 0; \
         const step = () => { const now = performance.now(); slowest = Math.max(slowest, now - before); before = now; screens += 1; \
         if (screens === 30) return done(slowest); scrollTo(0, screens * document.body.scrollHeight / 30); requestAnimationFrame(step); }; \
         requestAnimationFrame(step); })",
    );
    took.push(("slowest frame while scrolling", scrolled.as_f64().unwrap()));
    for (what, ms) in &took {
        println!("proof: page of {rows} rows: {what} in {ms:.0} ms");
    }
    assert!(whole() || took.iter().all(|(_, ms)| *ms < SMOOTH_MS), "{took:?}");
    kept_to_itself(&mut browser, &page);
}

/// What a peer or an agent might say to take a page over, or to confuse who reads it.
const HOSTILE: &[&str] = &[
    "</script><script>window.taken = 1</script>",
    "<img src=x onerror=\"window.taken = 1\"><svg onload=window.taken=1>",
    "</pre></details></style><style>*{display:none}</style>",
    "\u{202e}txt.exe\u{202c} \u{2066}over\u{2069} \u{200f}שלום",
    "a NUL \u{0}, an escape \u{1b}[2J, a line separator \u{2028}, \u{7f}\u{feff}",
    "<!-- <script> --> ]]> &lt;script&gt; &#60;b&#62; javascript:window.taken=1",
    "https://evil.example/\"onmouseover=\"window.taken=1 http://a@evil.example/ file:///etc/passwd",
    "%%{init: {'securityLevel': 'loose'}}%% end note; click A \"javascript:window.taken=1\" --> B: {{x}} #quot;",
];

fn hostile(attempt: u32) -> String {
    match HOSTILE.get(attempt as usize % (HOSTILE.len() + 1)) {
        Some(text) => format!("{attempt} {text}"),
        None => format!("{attempt} {}", "very-long-".repeat(3_000)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_journal_is_shown_and_does_nothing() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = runs::unreachable(dir.path(), 40, hostile);
    let page = page(&path, dir.path());
    let mut browser = Chromium::start(&program);
    browser.open(&page);
    assert_eq!(browser.eval("typeof window.taken"), "undefined");
    assert_eq!(
        browser.number("document.querySelectorAll('img, iframe, object, form[action]').length"),
        0
    );
    assert_eq!(browser.number("document.scripts.length"), 1);
    assert_eq!(browser.number("document.querySelectorAll('style').length"), 1);
    // It is all there to be read, and nothing of it turns or hides what is beside it.
    browser.eval("document.querySelectorAll('.row').forEach((row) => { row.open = true; })");
    browser.wait("document.querySelectorAll('.row .as').length > 0");
    let whole = browser.text("document.body.innerText");
    for words in [
        "</script><script>window.taken = 1</script>",
        "⟨U+202E⟩txt.exe",
        "\\u0000",
        "⟨U+2028⟩",
        "שלום",
    ] {
        assert!(whole.contains(words), "{words}");
    }
    for character in ['\u{202e}', '\u{2066}', '\u{0}', '\u{1b}', '\u{2028}'] {
        assert!(!whole.contains(character), "{character:?}");
    }
    assert_eq!(
        browser.number("document.documentElement.scrollWidth"),
        1280,
        "a long line is broken"
    );
    let links = browser.eval("[...document.querySelectorAll('a[href]')].map((a) => a.getAttribute('href')).filter((to) => !/^#r\\d+$/.test(to))");
    let links: Vec<String> = serde_json::from_value(links).unwrap();
    let leads_where_it_says = |link: &&String| link.starts_with("http") && !link.contains('@') && !link.contains('"');
    assert!(links.iter().all(|link| leads_where_it_says(&link)), "{links:?}");
    kept_to_itself(&mut browser, &page);
}

/// The control of the tests above: what a page must not do is seen where one does it, and its policy stops it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_page_must_not_do_is_seen_and_stopped() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = runs::unreachable(dir.path(), 10, |_| "away".to_owned());
    let page = page(&path, dir.path());
    let html = fs::read_to_string(&page).unwrap();
    let mut browser = Chromium::start(&program);
    for (what, added) in [
        ("script", "<script>window.taken = 1</script>"),
        (
            "handler",
            "<b onclick=\"window.taken = 1\" id=\"x\">x</b><script>document.getElementById('x').click()</script>",
        ),
        ("style", "<style>body { display: none }</style>"),
        ("img", "<img src=\"http://127.0.0.1:9/x.png\">"),
    ] {
        let other = dir.path().join(format!("{what}.html"));
        fs::write(&other, html.replace("<main>", &format!("<main>{added}"))).unwrap();
        browser.open(&other);
        assert_eq!(browser.eval("typeof window.taken"), "undefined", "{what}");
        assert_ne!(
            browser.text("getComputedStyle(document.body).display"),
            "none",
            "{what}"
        );
        let complaints = browser.complaints();
        assert!(
            complaints.iter().any(|said| said.contains("Content Security Policy")),
            "{what}: {complaints:?}"
        );
    }
    // Without its policy, a request is seen.
    let other = dir.path().join("open.html");
    let open = html
        .replace("Content-Security-Policy", "nothing")
        .replace("<main>", "<main><img src=\"http://127.0.0.1:9/x.png\">");
    fs::write(&other, open).unwrap();
    browser.open(&other);
    let requests = browser.requests();
    assert!(
        requests.iter().any(|url| url == "http://127.0.0.1:9/x.png"),
        "{requests:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_of_each_run_is_read_by_mermaid_itself() {
    let Some(program) = program() else { return };
    let Some(mermaid) = std::env::var_os("RUNNER_TEST_MERMAID") else {
        println!("not run: RUNNER_TEST_MERMAID names no mermaid.min.js (npm: mermaid)");
        return;
    };
    let library = fs::read_to_string(mermaid).unwrap();
    let (crashed, cut) = tokio::join!(runs::crashed_twice(), runs::timed_out());
    let dir = tempfile::tempdir().unwrap();
    let folder = |name: &str| {
        let path = dir.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let damaged = runs::damaged(&crashed.journal(), &folder("damaged"));
    let nasty = runs::unreachable(&folder("hostile"), 40, hostile);
    let mut browser = Chromium::start(&program);
    browser.eval(&library);
    browser.eval("mermaid.initialize({startOnLoad: false, securityLevel: 'strict'})");
    for (path, words) in [
        (
            crashed.journal(),
            &[
                "Cloned",
                "agent ×2, check, handover",
                "start 2",
                "completed, acknowledged",
            ][..],
        ),
        (cut.journal(), &["AgentTimedOut", "failed"][..]),
        (damaged, &["not shown"][..]),
        (nasty, &["not over", "</pre></details></style>"][..]),
    ] {
        let said = journal(&["dump", "--format", "mermaid", text(&path)]);
        let diagram = said.stdout;
        assert!(diagram.starts_with("stateDiagram-v2\n"), "{diagram}");
        let source = json!(diagram).to_string();
        let drawn = browser.text(&format!(
            "mermaid.parse({source}).then(() => mermaid.render('drawn', {source})).then(({{svg}}) => {{ \
             document.body.innerHTML = svg; return document.body.textContent.replace(/\\s+/g, ' '); }})"
        ));
        for words in words {
            assert!(drawn.contains(words), "{words} in {drawn}\n{diagram}");
        }
        assert_eq!(browser.eval("typeof window.taken"), "undefined");
    }
    let refused = browser.eval("mermaid.parse('stateDiagram-v2\\n  note right of').then(() => false, () => true)");
    assert_eq!(refused, true, "what is no diagram is refused");
}
