// What tells this browser from others that have the same link, where a link is for the browser that opens it first.
//
// The secret is one for all links, since any tab may open a link again. The gateway gets its SHA-256 with the first connect
// and the secret with each later one, as subprotocols: a URL would be logged.

const KEY = "vncgate.browser-secret";
const SECRET_LENGTH = 32;

const DIGEST_SUBPROTOCOL = "vncgate.browser-digest.";
const SECRET_SUBPROTOCOL = "vncgate.browser-secret.";

/**
 * The SHA-256 of this browser's secret, in hexadecimal digits. `null` if it has none, so that no link is for it.
 *
 * @returns {Promise<string | null>}
 */
export async function browserDigest() {
    const secret = readSecret();
    return secret === null || crypto.subtle === undefined ? null : sha256(secret);
}

/**
 * The subprotocol by which this browser shows itself at a connect. `null` if the page is not encrypted: browsers have no
 * SHA-256 there, and the secret would be everybody's.
 *
 * @param {boolean} bound whether the link is this browser's already
 * @returns {Promise<string | null>}
 */
export async function browserSubprotocol(bound) {
    if (crypto.subtle === undefined) {
        return null;
    }
    const secret = readSecret() ?? makeSecret();
    return bound ? SECRET_SUBPROTOCOL + secret : DIGEST_SUBPROTOCOL + await sha256(secret);
}

// A browser that keeps nothing for this page's origin keeps the state of its history, through reloads as well.
function readSecret() {
    try {
        return localStorage.getItem(KEY);
    } catch {
        return /** @type {string | null} */ (history.state?.browserSecret ?? null);
    }
}

function makeSecret() {
    const secret = hex(crypto.getRandomValues(new Uint8Array(SECRET_LENGTH)));
    try {
        localStorage.setItem(KEY, secret);
    } catch {
        history.replaceState({ ...history.state, browserSecret: secret }, "");
    }
    return secret;
}

/** @param {string} text */
async function sha256(text) {
    return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))));
}

/** @param {Uint8Array} bytes */
function hex(bytes) {
    return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
