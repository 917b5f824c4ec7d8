//! Access tokens under attack: made up, altered, of others, of yesterday.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};

use super::client::{Client, Organization};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    tokens_that_sentinel_did_not_sign_are_refused
    a_token_of_yesterday_is_refused
    a_token_does_not_lead_into_another_organization
    each_kind_of_token_is_good_for_its_own_use_alone
    what_a_token_says_about_its_person_opens_nothing
    a_changed_role_and_a_removal_hold_on_the_next_request
}

/// As the harness configures it.
const SECRET: &[u8] = b"a secret for tests, long enough to be one";

fn claims(token: &str) -> Value {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_audience(&["sentinel-admin"]);
    jsonwebtoken::decode::<Value>(token, &DecodingKey::from_secret(SECRET), &validation).unwrap().claims
}

fn signed(claims: &Value, algorithm: Algorithm, secret: &[u8]) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret)).unwrap()
}

fn with(claims: &Value, name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims.clone();
    claims[name] = value.into();
    claims
}

/// A person's token, and what it says.
async fn token_of(client: &Client, org: &Organization) -> (String, Value) {
    let tokens = client.login(&org.email, super::client::PASSWORD).await.ok(200);
    let token = tokens["access_token"].as_str().unwrap().to_owned();
    let claims = claims(&token);
    (token, claims)
}

async fn refused(client: &Client, token: &str) {
    for path in ["/auth/me", "/orgs/me", "/api/v1/workspaces"] {
        client.with_token(token).get(path).await.problem(401, "unauthenticated");
    }
}

async fn tokens_that_sentinel_did_not_sign_are_refused(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let (token, claims) = token_of(&client, &Organization::register(&client).await).await;
    // The same claims, well signed, are good: what is refused below is refused for what is wrong with it.
    client.with_token(&signed(&claims, Algorithm::HS256, SECRET)).get("/auth/me").await.ok(200);

    let parts: Vec<&str> = token.split('.').collect();
    let base64 = |text: &str| {
        let mut bits = String::new();
        text.bytes().for_each(|byte| bits.push_str(&format!("{byte:08b}")));
        let letters: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['-', '_']).collect();
        let six = |chunk: &[u8]| format!("{:0<6}", std::str::from_utf8(chunk).unwrap());
        bits.as_bytes()
            .chunks(6)
            .map(|chunk| letters[usize::from_str_radix(&six(chunk), 2).unwrap()])
            .collect::<String>()
    };
    for none in ["none", "None", "NONE", "nOnE"] {
        let header = base64(&format!("{{\"typ\":\"JWT\",\"alg\":\"{none}\"}}"));
        refused(&client, &format!("{header}.{}.", parts[1])).await;
        refused(&client, &format!("{header}.{}.{}", parts[1], parts[2])).await;
    }
    refused(&client, &signed(&claims, Algorithm::HS256, b"another secret that is long enough to be one")).await;
    refused(&client, &signed(&claims, Algorithm::HS256, b"")).await;
    refused(&client, &signed(&claims, Algorithm::HS384, SECRET)).await;
    refused(&client, &signed(&claims, Algorithm::HS512, SECRET)).await;
    refused(&client, &format!("{}.{}.", parts[0], parts[1])).await;
    let altered = base64(&with(&claims, "role", "owner ").to_string());
    refused(&client, &format!("{}.{altered}.{}", parts[0], parts[2])).await;
    for id in ["unknown", "../../etc/passwd", "' OR 1=1 --", ""] {
        let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::HS256) };
        let named = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(SECRET)).unwrap();
        refused(&client, &named).await;
    }
    for (name, value) in [("iss", "https://elsewhere.example"), ("aud", "another-service")] {
        refused(&client, &signed(&with(&claims, name, value), Algorithm::HS256, SECRET)).await;
    }
    for name in ["iss", "aud", "exp", "sub", "sid", "org"] {
        let mut partial = claims.clone();
        partial.as_object_mut().unwrap().remove(name);
        refused(&client, &signed(&partial, Algorithm::HS256, SECRET)).await;
    }
}

async fn a_token_of_yesterday_is_refused(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let (_, claims) = token_of(&client, &Organization::register(&client).await).await;
    let issued = claims["iat"].as_i64().unwrap();
    assert_eq!(claims["exp"].as_i64().unwrap() - issued, 15 * 60);
    let expired = with(&claims, "exp", issued - 1);
    refused(&client, &signed(&expired, Algorithm::HS256, SECRET)).await;
    refused(&client, &signed(&with(&claims, "exp", "never"), Algorithm::HS256, SECRET)).await;
}

async fn a_token_does_not_lead_into_another_organization(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let (ours, theirs) = (Organization::register(&client).await, Organization::register(&client).await);
    let (_, claims) = token_of(&client, &ours).await;
    let (_, others) = token_of(&client, &theirs).await;
    // Even with the signing secret, a token has to fit together: the session, its person and their organization.
    refused(&client, &signed(&with(&claims, "org", theirs.org_id.as_str()), Algorithm::HS256, SECRET)).await;
    refused(&client, &signed(&with(&claims, "sub", theirs.user_id.as_str()), Algorithm::HS256, SECRET)).await;
    refused(&client, &signed(&with(&claims, "sid", others["sid"].clone()), Algorithm::HS256, SECRET)).await;
}

async fn each_kind_of_token_is_good_for_its_own_use_alone(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    refused(&client, &org.refresh_token).await;
    let (access, _) = token_of(&client, &org).await;
    client.post("/auth/refresh", json!({"refresh_token": access})).await.problem(422, "validation_failed");
    let hash = "0".repeat(64);
    client.post("/auth/refresh", json!({"refresh_token": hash})).await.problem(401, "invalid_refresh_token");
    // As a cookie or in the query a token is none.
    let cookie = client.request(reqwest::Method::GET, "/auth/me").header("cookie", format!("access_token={access}"));
    client.send(cookie).await.problem(401, "unauthenticated");
    client.get(&format!("/auth/me?access_token={access}")).await.problem(401, "unauthenticated");
}

async fn what_a_token_says_about_its_person_opens_nothing(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let invite = json!({"email": "viewer@people.example", "full_name": "A Viewer", "role": "viewer"});
    let temporary = org.owner.post("/orgs/me/users/invite", invite).await.ok(201)["temporary_password"].clone();
    let first = client.login("viewer@people.example", temporary.as_str().unwrap()).await.ok(200);
    let token = first["access_token"].as_str().unwrap();
    let change = json!({"current_password": temporary, "new_password": "correct horse battery staple"});
    client.with_token(token).post("/auth/password", change).await.ok(204);
    let risen = with(&with(&claims(token), "role", "owner"), "permissions", json!(["users:read", "users:write"]));
    let viewer = client.with_token(&signed(&risen, Algorithm::HS256, SECRET));
    assert_eq!(viewer.get("/auth/me").await.ok(200)["role"], "viewer");
    viewer.get("/orgs/me/users").await.problem(403, "permission_denied");
}

async fn a_changed_role_and_a_removal_hold_on_the_next_request(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    let (person, id) = org.person("admin", json!([])).await;
    let path = format!("/orgs/me/users/{id}");
    person.post("/workspaces", json!({"name": "as an admin"})).await.ok(201);
    org.owner.patch(&path, json!({"role": "viewer"})).await.ok(200);
    person.post("/workspaces", json!({"name": "as a viewer"})).await.problem(403, "permission_denied");
    person.get("/orgs/me/users").await.problem(403, "permission_denied");
    org.owner.patch(&path, json!({"role": "admin"})).await.ok(200);
    person.post("/workspaces", json!({"name": "as an admin again"})).await.ok(201);
    org.owner.delete(&path).await.ok(204);
    person.get("/auth/me").await.problem(401, "unauthenticated");
}
