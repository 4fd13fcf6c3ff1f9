use serde_json::Value;

use super::*;
use crate::adapters::hostile::client;

async fn server() -> ForgeServer {
    let repo = ForgeRepo {
        owner: "o".to_owned(),
        name: "r".to_owned(),
        token: Secret::new("t"),
        branches: Branches::with(|_| None),
    };
    let server = ForgeServer::start(repo, Faults::new()).await.unwrap();
    for number in 1..=3 {
        let head = if number == 3 { "b" } else { "a" };
        server.plant(StoredPull {
            number,
            html_url: String::new(),
            state: "open".to_owned(),
            draft: false,
            title: String::new(),
            body: None,
            head: StoredEnd::new("o", "r", head, "1"),
            base: StoredEnd::new("o", "r", "main", "2"),
        });
    }
    server.close(1);
    server
}

async fn get(server: &ForgeServer, path: &str) -> (u16, Value) {
    let url = format!("{}/repos/o/r/pulls{path}", server.listening().base());
    let response = client().get(url).bearer_auth("t").send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap())
}

fn numbers(list: &Value) -> Vec<u64> {
    let list = list.as_array().unwrap();
    list.iter().map(|pull| pull["number"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn the_list_is_filtered_and_cut_into_pages_newest_first() {
    let server = server().await;
    for (query, expected) in [
        ("", vec![3, 2]),
        ("?state=all", vec![3, 2, 1]),
        ("?state=closed", vec![1]),
        ("?state=all&head=o:a", vec![2, 1]),
        ("?state=all&head=x:a", vec![]),
        ("?state=all&per_page=2", vec![3, 2]),
        ("?state=all&per_page=2&page=2", vec![1]),
    ] {
        let (status, list) = get(&server, query).await;
        assert_eq!((status, numbers(&list)), (200, expected), "{query}");
    }
}

#[tokio::test]
async fn one_pull_request_can_be_asked_for_by_its_number() {
    let server = server().await;
    let (status, pull) = get(&server, "/3").await;
    assert_eq!((status, &pull["head"]["ref"]), (200, &Value::from("b")));
    assert_eq!(pull["head"]["repo"]["full_name"], "o/r");
    assert_eq!(get(&server, "/4").await.0, 404);
    assert_eq!(server.calls(Endpoint::PullGet).len(), 2);
}
