use super::super::lived::Lived;
use super::*;
use crate::cli::journal::chronicle::Telling;
use crate::machine::{Ack, EffectName, Failure};
use crate::redact::Redactor;

fn page(lived: &Lived) -> String {
    let (_directory, post_mortem) = lived.post_mortem();
    let bodies = Bodies::Redacted(Redactor::new());
    let mut telling = Telling::new(&bodies);
    post_mortem
        .each(|row| {
            telling.take(row);
            Ok(())
        })
        .unwrap();
    let mut out = Vec::new();
    let chronicle = telling.end(&post_mortem.summary);
    write(&post_mortem, &chronicle, &bodies, 1, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// What stands between a tag's only begin and its only end.
fn within<'a>(page: &'a str, tag: &str) -> &'a str {
    let (before, rest) = page.split_once(&format!("<{tag}>")).unwrap();
    let (within, after) = rest.split_once(&format!("</{tag}>")).unwrap();
    for other in [before, after] {
        assert!(!other.contains(&format!("<{tag}")), "a second {tag}");
    }
    within
}

#[test]
fn the_policy_names_the_one_style_and_the_one_script_that_are_there() {
    let page = page(&Lived::up_to(EffectName::Push));
    for (tag, directive) in [("style", "style-src"), ("script", "script-src")] {
        let hash = BASE64_STANDARD.encode(Sha256::digest(within(&page, tag)));
        assert!(page.contains(&format!("{directive} 'sha256-{hash}';")), "{tag}");
    }
    assert!(page.contains("content=\"default-src 'none'; "));
    let at = |what: &str| page.find(what).unwrap();
    assert!(
        at("Content-Security-Policy") < at("<style>"),
        "it counts from where it stands"
    );
}

#[test]
fn nothing_of_a_cause_is_markup_wherever_it_is_shown() {
    let hostile = "</script><img src=x onerror=alert(1)>\" onload=\"x";
    let page = page(
        &Lived::up_to(EffectName::Clone)
            .fails(EffectName::Clone, Failure::CloneFailed, hostile)
            .concludes(),
    );
    assert!(!page.contains("<img") && !page.contains("\" onload"), "{page}");
    assert!(
        page.matches("&lt;/script&gt;&lt;img src=x").count() > 3,
        "it is shown in each of its places"
    );
}

#[test]
fn what_it_took_ends_with_the_task_and_not_with_a_later_start() {
    let reported = Lived::up_to(EffectName::PullRequest).opens_it().concludes();
    let reported = reported.reports(Ack::Accepted);
    let took = |page: &str| {
        let (_, took) = page.split_once("<dt>took</dt><dd>").unwrap();
        took.split_once('<').unwrap().0.to_owned()
    };
    let before = took(&page(&reported));
    assert_eq!(took(&page(&reported.after(3 * 86_400_000).boots())), before);
}

#[test]
fn the_first_sentence_of_the_verdict_is_the_heading_and_the_rest_stands_below() {
    let opened = Lived::up_to(EffectName::PullRequest)
        .opens_it()
        .concludes()
        .reports(Ack::Accepted);
    let page = page(&opened);
    let (_, heading) = page.split_once("<h1 class=\"done\">").unwrap();
    let (heading, rest) = heading.split_once("</h1>").unwrap();
    assert_eq!(heading, "<span class=\"badge\">✓ completed</span> Task t-1 is done.");
    assert!(
        rest.trim_start()
            .starts_with("<p class=\"verdict\">Opened <a href=\"https://github.com/octo/hello/pull/7\""),
        "{rest}"
    );
    assert_eq!(first_sentence("All of it."), ("All of it.", ""));
}
