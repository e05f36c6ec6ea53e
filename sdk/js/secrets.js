/** Secrets of the tenant. The graph must say `secrets: [NAME]`. */
export { getSecret as get } from "#secrets";
