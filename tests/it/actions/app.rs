//! A GitHub App in place of a token: signed here, and the installation's token used for everything else.

use std::path::PathBuf;
use std::process::Command;

use ring::signature::{KeyPair, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use super::github::INSTALLED;
use super::{Bench, a_job};
use crate::harness::{CANARY, files_with};

/// A key as GitHub hands it out, and its public half. By openssl: a key in the tree would be somebody's, for a scanner.
fn key(form: &[&str]) -> (String, Vec<u8>) {
    let made = Command::new("openssl")
        .arg("genrsa")
        .args(form)
        .arg("2048")
        .output()
        .unwrap();
    let pem = String::from_utf8(made.stdout).unwrap();
    let pair = match PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap() {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).unwrap(),
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap(),
        _ => panic!("an RSA key"),
    };
    let public = pair.public_key().as_ref().to_vec();
    (pem, public)
}

async fn bench(pem: &str, public: Vec<u8>) -> Bench {
    let bench = Bench::new(&a_job())
        .await
        .without("RUNNER_ACTIONS_TOKEN")
        .with("RUNNER_ACTIONS_APP_ID", "1234")
        .with("RUNNER_ACTIONS_APP_KEY", pem);
    bench.github.know_app(public);
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_signs_finds_its_installation_and_uses_its_token_and_no_secret_of_it_is_left() {
    for form in [&["-traditional"][..], &[]] {
        let (pem, public) = key(form);
        let bench = bench(&pem, public).await;
        let (code, log) = bench.once().await;
        assert_eq!(code, Some(0), "{log}");
        let credentials: Vec<String> = bench
            .github
            .asked()
            .into_iter()
            .map(|(_, credential)| credential)
            .collect();
        assert!(
            credentials.iter().all(|credential| credential == INSTALLED),
            "{credentials:?}"
        );
        let line = pem.lines().nth(3).unwrap();
        for secret in [INSTALLED, CANARY, line] {
            assert!(!log.contains(secret));
            assert_eq!(files_with(&bench.path("state"), secret), Vec::<PathBuf>::new());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_the_apps_is_not_authorized() {
    let (pem, _) = key(&["-traditional"]);
    let (_, other) = key(&["-traditional"]);
    let bench = bench(&pem, other).await;
    let (code, log) = bench.once().await;
    assert_eq!(code, Some(1), "{log}");
    assert_eq!(bench.verdict()["details"]["reason"], "NotAuthorized");
    assert!(bench.github.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_is_not_installed_is_named() {
    use runner::embedded::faults::{Endpoint, Fault, Times};
    let (pem, public) = key(&["-traditional"]);
    let bench = bench(&pem, public).await;
    bench
        .github
        .inject(Endpoint::AppInstallation, Fault::Status(404), Times::Always);
    let (code, log) = bench.once().await;
    assert_eq!(code, Some(1), "{log}");
    assert_eq!(bench.verdict()["details"]["reason"], "AppNotInstalled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_come_from_a_file_and_an_empty_one_is_refused() {
    let bench = Bench::new(&a_job()).await.without("RUNNER_ACTIONS_TOKEN");
    let file = bench.path("token");
    let bench = bench.with("RUNNER_ACTIONS_TOKEN_FILE", file.to_str().unwrap());
    std::fs::write(&file, "").unwrap();
    let (code, log) = bench.once().await;
    assert_eq!(code, Some(2), "{log}");
    std::fs::write(&file, format!("{CANARY}\n")).unwrap();
    let (code, log) = bench.once().await;
    assert_eq!(code, Some(0), "{log}");
}
