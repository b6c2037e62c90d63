// Asks the authority for the status of a token: GET /console/status.

/**
 * @typedef {import("./reasons.js").End} End
 * @typedef {{name: string, instance: string, powerState: string | null, expiresAt: Date, singleUse: boolean,
 *            tokenUse: string | undefined, bound: boolean, viewOnly: boolean, clipboard: boolean,
 *            origin: string | null | undefined, sessionSeconds: number, idleSeconds: number}} Vm `powerState` is null
 *     when it is not known now; `singleUse`: the first console uses the token up; `tokenUse`: "reusable", "once" or
 *     "same-browser", and `bound`: this browser has used it; `viewOnly`: the gateway passes no keys and no pointer on;
 *     `clipboard`: it passes text for the machine's clipboard on; `origin`: see origin.js; `sessionSeconds`: how long a
 *     session may last; `idleSeconds`: how long without keys and pointer
 */

import { browserDigest } from "./browser.js";

// Longer than the authority waits for vCenter, after which it answers `vcenter_unavailable` itself.
const STATUS_TIMEOUT_MS = 20_000;

/**
 * Asks which virtual machine the token opens and whether its console can be opened now. Asking does
 * not use up a single-use token.
 *
 * @param {string} token
 * @param {AbortSignal} signal
 * @returns {Promise<{vm: Vm} | {refusal: End}>} never rejects: a server that does not answer, or answers
 *     nonsense, is a refusal as well.
 */
export async function askStatus(token, signal) {
    // AbortSignal.any and AbortSignal.timeout would do, but noVNC runs in browsers that have neither.
    const request = new AbortController();
    const cancel = () => request.abort();
    const timer = setTimeout(cancel, STATUS_TIMEOUT_MS);
    signal.addEventListener("abort", cancel);
    if (signal.aborted) {
        cancel();
    }
    /** @type {Record<string, string>} */
    const headers = { Authorization: `Bearer ${token}` };
    const digest = await browserDigest();
    if (digest !== null) {
        headers["Vncgate-Browser-Digest"] = digest;
    }
    /** @type {RequestInit} */
    const options = {
        headers,
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
        signal: request.signal,
    };
    let response, body;
    // Nothing but the request belongs in here: whatever fails in here is called a network that is away.
    try {
        response = await fetch("console/status", options);
        body = await response.text();
    } catch (error) {
        return refusal("unreachable", error instanceof Error ? error.message : String(error));
    } finally {
        clearTimeout(timer);
        signal.removeEventListener("abort", cancel);
    }
    return parseStatus(response, body);
}

/**
 * @param {Response} response
 * @param {string} body
 */
function parseStatus(response, body) {
    let answer;
    try {
        answer = JSON.parse(body);
    } catch {
        // The response is not the authority's. With a 5xx, the gateway reports that the authority is down.
        const code = response.status >= 500 ? "authority_unavailable" : "unexpected_answer";
        return refusal(code, `HTTP status ${response.status}`);
    }
    if (response.ok && typeof answer?.name === "string") {
        const { name, instance, power_state: powerState, expires_at: expiresAt, origin } = answer;
        return {
            vm: {
                name,
                instance,
                powerState,
                expiresAt: new Date(expiresAt),
                singleUse: answer.single_use === true,
                tokenUse: answer.token_use,
                bound: answer.bound === true,
                origin,
                viewOnly: answer.access === "view",
                clipboard: answer.clipboard !== false,
                sessionSeconds: answer.session_seconds ?? Infinity,
                idleSeconds: answer.session_idle_seconds ?? Infinity,
            },
        };
    }
    if (typeof answer?.code === "string") {
        return refusal(answer.code, answer.message ?? "");
    }
    return refusal("unexpected_answer", `HTTP status ${response.status}`);
}

/**
 * @param {string} code
 * @param {string} detail
 */
function refusal(code, detail) {
    return { refusal: { code, detail } };
}
