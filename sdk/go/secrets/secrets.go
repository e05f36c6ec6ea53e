// Package secrets gives secrets of the tenant, by name. A step that imports it needs `secrets: [NAME]` in its graph.
package secrets

// Get returns the secret's value. A name that the graph does not grant, or that nobody has set, ends the call.
func Get(name string) string { return get(name) }
