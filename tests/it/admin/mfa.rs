//! The second factor.

use serde_json::{Value, json};

use super::client::{Client, Organization, PASSWORD};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    a_second_factor_is_enrolled_asked_for_and_removed
    a_code_works_once_and_so_does_a_recovery_code
    wrong_codes_are_bounded_over_all_log_ins
    an_organization_can_demand_a_second_factor
    the_secret_and_the_codes_are_not_readable_in_the_database
}

/// The code that an authenticator app shows for a base32 secret, some steps from now.
pub fn code(secret: &str, steps: i64) -> String {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let (mut key, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for letter in secret.chars() {
        bits = bits << 5 | u32::try_from(alphabet.find(letter).unwrap()).unwrap();
        count += 5;
        if count >= 8 {
            count -= 8;
            key.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
        bits &= 0xff;
    }
    let seconds = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let step = i64::try_from(seconds / 30).unwrap() + steps;
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(&key).unwrap();
    mac.update(&step.to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let at = usize::from(digest[19] & 0xf);
    let number = u32::from_be_bytes(digest[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

/// Waits when the present step is nearly over, so that a test's codes stay what they are.
async fn early_in_a_step() {
    let seconds = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() % 30;
    if seconds >= 22 {
        tokio::time::sleep(std::time::Duration::from_secs(31 - seconds)).await;
    }
}

/// Enrols with the code of the step before; the secret and the recovery codes.
async fn enrol(person: &Client) -> (String, Vec<String>) {
    early_in_a_step().await;
    let enrolment = person.post("/auth/mfa/enrol", json!({})).await.ok(200);
    let secret = enrolment["secret"].as_str().unwrap().to_owned();
    assert!(enrolment["otpauth_url"].as_str().unwrap().contains(&secret));
    let confirmed = person.post("/auth/mfa/confirm", json!({"code": code(&secret, -1)})).await.ok(200);
    let codes: Vec<String> = serde_json::from_value(confirmed["recovery_codes"].clone()).unwrap();
    assert_eq!(codes.len(), 10);
    (secret, codes)
}

async fn token(client: &Client, email: &str) -> Value {
    let asked = client.login(email, PASSWORD).await.ok(200);
    assert_eq!(asked["mfa_required"], true, "{asked}");
    assert!(asked.get("access_token").is_none());
    asked["mfa_token"].clone()
}

async fn a_second_factor_is_enrolled_asked_for_and_removed(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let other = client.login(&org.email, PASSWORD).await.ok(200);
    let other = client.with_token(other["access_token"].as_str().unwrap());

    org.owner.post("/auth/mfa/confirm", json!({"code": "123456"})).await.problem(409, "conflict");
    let (secret, _) = enrol(&org.owner).await;
    assert_eq!(org.owner.get("/auth/me").await.ok(200)["mfa_enabled"], true);
    other.get("/auth/me").await.problem(401, "unauthenticated");
    org.owner.post("/auth/mfa/enrol", json!({})).await.problem(409, "conflict");

    let asked = token(&client, &org.email).await;
    client.with_token(asked.as_str().unwrap()).get("/auth/me").await.problem(401, "unauthenticated");
    let verify = json!({"mfa_token": asked, "code": code(&secret, 0)});
    let tokens = client.post("/auth/mfa/verify", verify).await.ok(200);
    client.with_token(tokens["access_token"].as_str().unwrap()).get("/orgs/me").await.ok(200);
    let verify = json!({"mfa_token": "made up", "code": code(&secret, 1)});
    client.post("/auth/mfa/verify", verify).await.problem(401, "invalid_mfa_token");

    org.owner.post("/auth/mfa/disable", json!({"password": "wrong"})).await.problem(422, "validation_failed");
    org.owner.post("/auth/mfa/disable", json!({"password": PASSWORD})).await.ok(204);
    org.owner.post("/auth/mfa/disable", json!({"password": PASSWORD})).await.problem(409, "conflict");
    assert!(client.login(&org.email, PASSWORD).await.ok(200)["access_token"].is_string());
}

async fn a_code_works_once_and_so_does_a_recovery_code(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let (secret, codes) = enrol(&org.owner).await;
    let verify = |code: String| {
        let (client, email) = (client.clone(), org.email.clone());
        async move {
            let body = json!({"mfa_token": token(&client, &email).await, "code": code});
            client.post("/auth/mfa/verify", body).await
        }
    };
    let present = code(&secret, 0);
    let (first, second) = tokio::join!(verify(present.clone()), verify(present.clone()));
    let mut statuses = [first.status.as_u16(), second.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401], "of two at once one");
    verify(present).await.problem(401, "invalid_mfa_code");
    verify(code(&secret, -1)).await.problem(401, "invalid_mfa_code");
    verify(code(&secret, 1)).await.ok(200);

    verify(codes[0].to_uppercase()).await.ok(200);
    verify(codes[0].clone()).await.problem(401, "invalid_mfa_code");
    let path = "/auth/mfa/recovery-codes";
    org.owner.post(path, json!({"password": "wrong"})).await.problem(422, "validation_failed");
    let fresh = org.owner.post(path, json!({"password": PASSWORD})).await.ok(200);
    verify(codes[1].clone()).await.problem(401, "invalid_mfa_code");
    verify(fresh["recovery_codes"][9].as_str().unwrap().to_owned()).await.ok(200);
}

async fn wrong_codes_are_bounded_over_all_log_ins(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let (secret, codes) = enrol(&org.owner).await;
    for _ in 0..5 {
        let body = json!({"mfa_token": token(&client, &org.email).await, "code": "wrong-code"});
        client.post("/auth/mfa/verify", body).await.problem(401, "invalid_mfa_code");
    }
    for code in [code(&secret, 0), codes[0].clone()] {
        let body = json!({"mfa_token": token(&client, &org.email).await, "code": code});
        let refused = client.post("/auth/mfa/verify", body).await;
        assert_eq!(refused.header("retry-after"), "900");
        refused.problem(429, "mfa_locked");
    }
    org.owner.get("/auth/me").await.ok(200);
}

async fn an_organization_can_demand_a_second_factor(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    org.owner.patch("/orgs/me", json!({"settings": {"require_mfa": true}})).await.ok(200);
    org.owner.get("/orgs/me").await.problem(403, "mfa_enrolment_required");
    let tokens = client.login(&org.email, PASSWORD).await.ok(200);
    assert_eq!(tokens["must_enrol_mfa"], true);
    let person = client.with_token(tokens["access_token"].as_str().unwrap());
    person.get("/workspaces").await.problem(403, "mfa_enrolment_required");
    person.get("/auth/me").await.ok(200);
    enrol(&person).await;
    person.get("/workspaces").await.ok(200);
    org.owner.get("/orgs/me").await.problem(401, "unauthenticated");
}

async fn the_secret_and_the_codes_are_not_readable_in_the_database(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let (_, codes) = enrol(&org.owner).await;
    let hashes = stored_codes(&sentinel.database).await;
    assert_eq!(hashes.len(), 10);
    assert!(hashes.iter().all(|hash| hash.len() == 64 && !codes.contains(hash)), "{hashes:?}");
}

async fn stored_codes(database: &TestDatabase) -> Vec<String> {
    use sqlx::Connection as _;
    let text = "SELECT code_hash FROM recovery_codes WHERE used_at IS NULL";
    if database.config().url.starts_with("sqlite") {
        let mut connection = sqlx::SqliteConnection::connect(&database.config().url).await.unwrap();
        sqlx::query_scalar(text).fetch_all(&mut connection).await.unwrap()
    } else {
        sqlx::query_scalar(text).fetch_all(&mut database.admin().await).await.unwrap()
    }
}
