//! As much of JSON Schema as the OpenRPC document of the execution APIs uses.

use regex_lite::Regex;
use serde_json::Value;

/// Says where a value does not follow a schema and why; `None` if it does.
pub fn violation(schema: &Value, value: &Value) -> Option<String> {
    check(schema, value, "result").err()
}

fn check(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    if let Some(name) = schema["type"].as_str()
        && !has_type(value, name)
    {
        return Err(format!("{at}: {value} is not of type {name}"));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        return Err(format!("{at}: {value} is none of {allowed:?}"));
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str()) {
        let regex = Regex::new(pattern).map_err(|e| format!("pattern {pattern:?}: {e}"))?;
        if !regex.is_match(text) {
            return Err(format!("{at}: {text:?} does not match {pattern}"));
        }
    }
    check_number(schema, value, at)?;
    check_object(schema, value, at)?;
    if let (Some(elements), items) = (value.as_array(), &schema["items"])
        && items.is_object()
    {
        for (index, element) in elements.iter().enumerate() {
            check(items, element, &format!("{at}[{index}]"))?;
        }
    }
    check_alternatives(schema, value, at)
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        _ => false,
    }
}

fn check_number(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let Some(number) = value.as_f64() else { return Ok(()) };
    if schema["minimum"].as_f64().is_some_and(|least| number < least)
        || schema["maximum"].as_f64().is_some_and(|most| number > most)
    {
        return Err(format!("{at}: {number} is out of range"));
    }
    Ok(())
}

fn check_object(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let Some(object) = value.as_object() else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(name) {
            return Err(format!("{at}: {name} is missing"));
        }
    }
    for (name, member) in object {
        let inner = format!("{at}.{name}");
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (known @ Value::Object(_), _) => check(known, member, &inner)?,
            (_, Value::Bool(false)) => return Err(format!("{inner}: not in the schema")),
            (_, other @ Value::Object(_)) => check(other, member, &inner)?,
            _ => {}
        }
    }
    Ok(())
}

fn check_alternatives(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    for all in schema["allOf"].as_array().into_iter().flatten() {
        check(all, value, at)?;
    }
    for name in ["oneOf", "anyOf"] {
        let Some(alternatives) = schema[name].as_array() else { continue };
        let wrong: Vec<String> =
            alternatives.iter().filter_map(|one| check(one, value, at).err()).collect();
        let fitting = alternatives.len() - wrong.len();
        if fitting == 0 {
            return Err(format!("{at}: fits no alternative: {}", wrong.join("; ")));
        }
        if name == "oneOf" && fitting > 1 {
            return Err(format!("{at}: fits {fitting} alternatives of one"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn finds_each_kind_of_violation() {
        let quantity = json!({ "type": "string", "pattern": "^0x(0|[1-9a-f][0-9a-f]*)$" });
        let schema = json!({
            "type": "object",
            "required": ["a"],
            "additionalProperties": false,
            "properties": {
                "a": quantity,
                "b": { "type": "array", "items": { "type": "number", "maximum": 1 } },
                "c": { "oneOf": [{ "type": "null" }, { "enum": ["x"] }] },
            },
        });
        let fine = json!({ "a": "0x1f", "b": [0.5], "c": null });
        assert_eq!(violation(&schema, &fine), None);
        for wrong in [
            json!([]),
            json!({}),
            json!({ "a": "0x01" }),
            json!({ "a": 1 }),
            json!({ "a": "0x1", "b": [2] }),
            json!({ "a": "0x1", "b": ["2"] }),
            json!({ "a": "0x1", "c": "y" }),
            json!({ "a": "0x1", "d": 1 }),
        ] {
            assert!(violation(&schema, &wrong).is_some(), "{wrong} was accepted");
        }
    }
}
