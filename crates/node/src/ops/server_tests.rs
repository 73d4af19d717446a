use super::*;

#[test]
fn a_query_is_understood_whole_or_refused() {
    assert_eq!(wanted(""), Ok(Wanted::default()));
    let both = Wanted { peers_min: Some(3), blocks_behind_max: 10 };
    assert_eq!(wanted("minPeers=3&maxBlocksBehind=10&verbose"), Ok(both));
    for (query, words) in [
        ("minPeers=many", "give a whole number"),
        ("minPeers=", "give a whole number"),
        ("maxBlocksBehind=-1", "give a whole number"),
        ("minpeers=1", "there are minPeers, maxBlocksBehind"),
    ] {
        let error = wanted(query).expect_err(query);
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_word_in_a_query_is_on_unless_it_says_off() {
    assert!(has("verbose", "verbose") && has("a=1&verbose=true", "verbose"));
    assert!(
        !has("", "verbose") && !has("verbose=false", "verbose") && !has("verbosely", "verbose")
    );
}

async fn body(answer: Answer) -> (u16, String) {
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.expect("it is whole").to_bytes();
    (status, String::from_utf8(bytes.to_vec()).expect("it is text"))
}

#[tokio::test]
async fn a_verdict_names_what_is_wrong_and_all_checks_if_asked() {
    let check = |name, ok| Check { name, ok, detail: format!("detail of {name}") };
    let checks = [check("peers", true), check("sync", false)];
    let wrong = (503, "sync: detail of sync\n".to_owned());
    assert_eq!(body(verdict(&checks, false)).await, wrong);
    assert_eq!(body(verdict(&checks[..1], false)).await, (200, "ok\n".to_owned()));
    let (status, json) = body(verdict(&checks, true)).await;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((status, &json[1]["name"], &json[1]["ok"]), (503, &"sync".into(), &false.into()));
    assert_eq!(body(besu(&checks)).await, (503, r#"{"status":"DOWN"}"#.to_owned()));
    assert_eq!(body(besu(&checks[..1])).await, (200, r#"{"status":"UP"}"#.to_owned()));
}
