//! Every operation of the served document, and what a suite must know to call it. An operation that is missing in
//! [`KNOWN`] fails the suites.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{Answer, Client, Organization, PASSWORD};

/// How an operation is kept apart from other organizations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Names an object in its path: another organization's is not there (404).
    Object,
    /// Acts in the caller's organization, or on the caller.
    Own,
    /// The same for everyone, or takes its credential in the body.
    Open,
    /// Takes an application's key.
    Application,
    /// Takes the token of a directory (SCIM).
    Directory,
}

use Kind::{Application, Directory, Object, Open, Own};

/// One line for each operation: its id, and its kind.
const KNOWN: &[(&str, Kind)] = &[
    ("acceptInvitation", Open),
    ("addDataSetValues", Object),
    ("applyPolicy", Own),
    ("approvePolicyDraft", Object),
    ("archiveWorkspace", Object),
    ("changeRollout", Object),
    ("changePassword", Own),
    ("commentAuditReview", Object),
    ("confirmMfa", Own),
    ("countAuditLogs", Own),
    ("createApiKey", Own),
    ("createDataSet", Own),
    ("createInvitation", Own),
    ("createEventTicket", Own),
    ("createPolicy", Own),
    ("createPolicyDraft", Own),
    ("createProviderCredential", Own),
    ("createSavedFilter", Own),
    ("createScimToken", Own),
    ("createScimUser", Directory),
    ("createWorkspace", Own),
    ("deleteOrganization", Own),
    ("deleteDataSet", Object),
    ("deletePolicy", Object),
    ("deletePolicyDraft", Object),
    ("deleteProviderCredential", Object),
    ("deleteSavedFilter", Object),
    ("deleteWorkspace", Object),
    ("diffPolicy", Object),
    ("diffPolicyDraft", Object),
    ("disableMfa", Own),
    ("draftPolicyVersion", Object),
    ("endOtherSessions", Own),
    ("endSession", Object),
    ("enrolMfa", Own),
    ("explainProblem", Open),
    ("exportAdminEvents", Own),
    ("exportAuditLogs", Own),
    ("exportOrganization", Own),
    ("finishSso", Open),
    ("forgotPassword", Open),
    ("getApiKey", Object),
    ("getAuditLog", Object),
    ("getAuditReview", Object),
    ("getAuditSettings", Own),
    ("getDataSet", Object),
    ("getHealth", Open),
    ("getMe", Own),
    ("getMetrics", Open),
    ("getOpenapi", Open),
    ("getOrganization", Own),
    ("getPolicy", Object),
    ("getRollout", Object),
    ("getPolicyDraft", Object),
    ("getPolicyImpact", Object),
    ("getPolicyVersion", Object),
    ("getSavedFilter", Object),
    ("getScimConfig", Directory),
    ("getScimToken", Own),
    ("getScimUser", Directory),
    ("getSso", Own),
    ("getStats", Own),
    ("getWorkspace", Object),
    ("giveFeedback", Object),
    ("inviteUser", Own),
    ("listAdminEvents", Own),
    ("listDataSets", Own),
    ("listApiKeys", Own),
    ("listFeedback", Object),
    ("listInvitations", Own),
    ("listAuditCheckpoints", Own),
    ("listAuditReviews", Own),
    ("eraseAuditUsers", Own),
    ("escalateAuditLog", Object),
    ("resolveAuditLog", Object),
    ("updateAuditReview", Object),
    ("updateAuditSettings", Own),
    ("listAuditLogs", Own),
    ("listPolicies", Own),
    ("listPolicyDrafts", Own),
    ("listPolicyVersions", Object),
    ("listProviderCredentials", Own),
    ("listRoles", Own),
    ("listRolloutDifferences", Object),
    ("listSavedFilters", Own),
    ("listScimResourceTypes", Directory),
    ("listScimSchemas", Directory),
    ("listScimUsers", Directory),
    ("listSessions", Own),
    ("listUsers", Own),
    ("listWorkspaceMembers", Object),
    ("listWorkspaces", Own),
    ("login", Open),
    ("logout", Own),
    ("patchScimUser", Directory),
    ("process", Application),
    ("promoteRollout", Object),
    ("publishPolicyDraft", Object),
    ("refresh", Open),
    ("regenerateRecoveryCodes", Own),
    ("register", Open),
    ("removeScimUser", Directory),
    ("removeSso", Own),
    ("removeUser", Object),
    ("removeWorkspaceMember", Object),
    ("replacePolicy", Object),
    ("replacePolicyDraft", Object),
    ("replaceScimUser", Directory),
    ("replayPolicy", Object),
    ("replayTexts", Object),
    ("resendInvitation", Object),
    ("resetPassword", Open),
    ("restoreOrganization", Open),
    ("restoreWorkspace", Object),
    ("revokeApiKey", Object),
    ("revokeInvitation", Object),
    ("revokeScimToken", Own),
    ("rollbackPolicy", Object),
    ("rotateApiKey", Object),
    ("setSso", Own),
    ("setWorkspaceMember", Object),
    ("startRollout", Object),
    ("startSso", Open),
    ("stopRollout", Object),
    ("testPolicy", Object),
    ("testProviderCredential", Object),
    ("streamEvents", Open),
    ("unarchiveWorkspace", Object),
    ("updateApiKey", Object),
    ("updateOrganization", Own),
    ("updateSavedFilter", Object),
    ("updateUser", Object),
    ("updateWorkspace", Object),
    ("verifyAuditLogs", Own),
    ("verifyMfa", Open),
];

/// Where the ids of a path's parameters come from when that is not the list at the path before the parameter.
const LISTS: &[(&str, &str)] = &[
    ("getScimUser", "/orgs/me/users"),
    ("patchScimUser", "/orgs/me/users"),
    ("removeScimUser", "/orgs/me/users"),
    ("replaceScimUser", "/orgs/me/users"),
];

/// An operation as the document describes it.
pub struct Operation {
    pub id: String,
    pub method: Method,
    pub path: String,
    pub kind: Kind,
    pub permission: Option<String>,
    /// The schema of its JSON body.
    pub body: Option<Value>,
}

/// All operations; those that end the caller's session or organization come last.
pub async fn operations(client: &Client) -> (Vec<Operation>, Schemas) {
    let mut document = client.get("/openapi.json").await.ok(200);
    // A provider that is asked about itself: on this machine, where nobody answers.
    document["components"]["schemas"]["SsoSettings"]["properties"]["issuer"]["example"] = json!("http://127.0.0.1:1");
    // The suites go on with the password they have.
    document["components"]["schemas"]["ChangePassword"]["properties"]["current_password"]["example"] = json!("wrong");
    let mut known: BTreeMap<&str, Kind> = KNOWN.iter().copied().collect();
    assert_eq!(known.len(), KNOWN.len(), "an operation is listed twice");
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            let kind = known.remove(id.as_str()).unwrap_or_else(|| panic!("{id} is new: add it to KNOWN"));
            let security = &operation["security"][0];
            let credential = match kind {
                Object | Own => security["session"].is_array(),
                Application => security["apiKey"].is_array(),
                Directory => security["scim"].is_array(),
                Open => security.is_null(),
            };
            assert!(credential, "{id} is no {kind:?}: {security}");
            assert!(kind != Object || path.contains('{'), "{id} has no object in its path");
            assert!(kind != Own || !path.contains('{'), "{id} has an object in its path");
            let media = if kind == Directory { "application/scim+json" } else { "application/json" };
            let body = &operation["requestBody"]["content"][media]["schema"];
            operations.push(Operation {
                id,
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                kind,
                permission: operation["x-permission"].as_str().map(str::to_owned),
                body: body.is_object().then(|| body.clone()),
            });
        }
    }
    assert!(known.is_empty(), "not in the document: {known:?}");
    operations.sort_by_key(|operation| {
        let ends = operation.id == "logout" || (operation.method == Method::DELETE && operation.kind == Own);
        (ends, operation.id.clone())
    });
    (operations, Schemas(document["components"]["schemas"].clone()))
}

/// The schemas that others refer to.
pub struct Schemas(Value);

impl Schemas {
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(name) => self.resolve(&self.0[name.rsplit('/').next().unwrap()]),
            None => schema,
        }
    }

    /// The least that keeps the schema; every id in it is `id`.
    pub fn example(&self, schema: &Value, id: &str) -> Value {
        let schema = self.resolve(schema);
        if schema["format"] == "uuid" {
            return json!(id);
        }
        if let Some(example) = schema.get("example") {
            return example.clone();
        }
        if let Some(first) = schema["enum"].get(0) {
            return first.clone();
        }
        if let Some(parts) = schema["allOf"].as_array() {
            let parts = parts.iter().filter_map(|part| self.example(part, id).as_object().cloned());
            return Value::Object(parts.flatten().collect());
        }
        if let Some(choices) = schema["oneOf"].as_array() {
            let choice = choices.iter().find(|choice| choice["type"] != "null").unwrap();
            return self.example(choice, id);
        }
        let kind = schema["type"].as_str().or_else(|| schema["type"].as_array()?.first()?.as_str());
        match kind.unwrap_or("object") {
            "string" if schema["format"] == "date-time" => json!("2030-01-01T00:00:00Z"),
            "string" => json!("x".repeat(usize::try_from(schema["minLength"].as_u64().unwrap_or(1)).unwrap().max(1))),
            "integer" | "number" => json!(schema["minimum"].as_f64().unwrap_or(1.0).max(1.0) as i64),
            "boolean" => json!(true),
            "array" => json!([]),
            _ => {
                let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let member = |name: &str| (name.to_owned(), self.example(&schema["properties"][name], id));
                Value::Object(required.map(member).collect::<Map<_, _>>())
            }
        }
    }

    /// Names of the body's members that are ids.
    pub fn ids(&self, schema: &Value) -> Vec<String> {
        let is_id = |schema: &Value| {
            let refers = |schema: &Value| self.resolve(schema)["format"] == "uuid";
            refers(schema) || schema["oneOf"].as_array().is_some_and(|choices| choices.iter().any(refers))
        };
        let properties = self.properties(schema);
        properties.into_iter().filter(|(_, schema)| is_id(schema)).map(|(name, _)| name).collect()
    }

    pub fn properties(&self, schema: &Value) -> Map<String, Value> {
        self.resolve(schema)["properties"].as_object().cloned().unwrap_or_default()
    }
}

impl Operation {
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Calls it as `caller`, without changing the path's placeholders.
    pub async fn call(&self, caller: &Client, path: &str, body: Option<&Value>) -> Answer {
        let mut request = caller.request(self.method.clone(), path).header("if-match", "\"1\"");
        if let Some(body) = body {
            request = request.json(body);
        }
        caller.send(request).await
    }

    /// The path with ids of objects that `owner` has.
    pub async fn path_of(&self, owner: &Client) -> String {
        let mut path = self.path.clone();
        while let Some((before, rest)) = path.clone().split_once('{') {
            let (_, after) = rest.split_once('}').unwrap();
            let list =
                LISTS.iter().find(|(id, _)| *id == self.id).map_or(before.trim_end_matches('/'), |(_, list)| list);
            let objects = owner.get(list).await.ok(200);
            let first = &objects["data"][0];
            let id = if rest.starts_with("version}") { &first["version"] } else { &first["id"] };
            assert!(!id.is_null(), "{}: nothing in {list}", self.id);
            path = format!("{before}{}{after}", id.to_string().trim_matches('"'));
        }
        path
    }
}

/// An organization with an object of every kind that a path can name.
pub async fn furnished(client: &Client) -> Organization {
    let org = Organization::register(client).await;
    let workspace = org.workspace().await["id"].clone();
    let (_, key) = org.api_key(&workspace).await;
    let policy = json!({"name": "furniture", "document": {"extends": "monitor"}});
    let made = org.owner.post("/policies", policy.clone()).await.ok(201);
    let path = format!("/policies/{}", made["id"].as_str().unwrap());
    let draft = org.owner.post(&format!("{path}/drafts"), policy).await.ok(201);
    let shadow = json!({"draft_id": draft["id"], "stage": "shadow"});
    org.owner.post(&format!("{path}/rollout"), shadow).await.ok(201);
    let member = format!("/workspaces/{}/members/{}", workspace.as_str().unwrap(), org.user_id);
    org.owner.put(&member, json!({"permissions": ["api_keys:write"]})).await.ok(200);
    let invitation = json!({"email": "guest@people.example", "full_name": "A Guest", "role": "member"});
    org.owner.post("/orgs/me/invitations", invitation).await.ok(201);
    let credential =
        json!({"workspace_id": workspace, "upstream": "ollama", "name": "n", "credential": "sk-0123456789"});
    org.owner.post("/provider-credentials", credential).await.ok(201);
    org.owner.post("/data-sets", json!({"name": "furniture", "values": ["CUST-000009"]})).await.ok(201);
    let filter = json!({"name": "furniture", "resource": "audit-logs", "query": {"action": "block"}, "shared": true});
    org.owner.post("/saved-filters", filter).await.ok(201);
    let draft = json!({"name": "furniture", "document": {"extends": "strict"}});
    org.owner.post("/policy-drafts", draft).await.ok(201);
    // Something that a rule acts upon.
    client.process(&key, "my card is 4111 1111 1111 1111").await.ok(200);
    for _ in 0..200 {
        let rows = org.owner.get("/audit-logs").await.ok(200);
        if let Some(id) = rows["data"][0]["id"].as_str() {
            org.owner.post(&format!("/audit-logs/{id}/escalate"), json!({"reason": "furniture"})).await.ok(201);
            return org;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the request does not appear in the audit trail");
}

/// A new session of the owner: what a suite tries may end the one it uses.
pub async fn again(client: &Client, org: &Organization) -> Client {
    let tokens = client.login(&org.email, PASSWORD).await.ok(200);
    client.with_token(tokens["access_token"].as_str().unwrap())
}

/// Prints a matrix and leaves it below the target folder.
pub fn publish(name: &str, sentinel: &crate::support::Sentinel, head: &[&str], rows: &[(String, Vec<String>)]) {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let line = |first: &str, cells: &[String]| {
        let cells: String = cells.iter().map(|cell| format!("  {cell:<9}")).collect();
        format!("{first:<width$}{cells}").trim_end().to_owned() + "\n"
    };
    let mut text = line("operation", &head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
    text.extend(rows.iter().map(|(name, cells)| line(name, cells)));
    let engine = if sentinel.database.config().url.starts_with("sqlite") { "sqlite" } else { "postgres" };
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{engine}.txt"));
    std::fs::write(&file, &text).unwrap();
    println!("{name} on {engine}, in {}:\n{text}", file.display());
}
