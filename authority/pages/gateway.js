// What the gateway answers while a console is open: how quickly it does, and who else has the console open.

import { pause, untilVisible } from "./wait.js";

// Gateways report a session to the register within a second of its opening.
const FIRST_MS = 2_000;
const INTERVAL_MS = 15_000;
const TIMEOUT_MS = 10_000;

/**
 * `ms`: how long the answer took; null if none came. `others`: how many other sessions the machine has; null if it is not
 * known. `users`: the names of those whom the operator shows.
 *
 * @typedef {{ms: number | null, others: number | null, users: string[]}} Answer
 */

/**
 * Asks now and then while `signal` is not aborted and the page is visible.
 *
 * @param {string} token the one that has opened the console
 * @param {AbortSignal} signal
 * @param {(answer: Answer) => void} show gets each answer
 */
export async function askGateway(token, signal, show) {
    await pause(FIRST_MS, signal);
    while (!signal.aborted) {
        await untilVisible(signal);
        const answer = await ask(token, signal);
        if (!signal.aborted) {
            show(answer);
            await pause(INTERVAL_MS, signal);
        }
    }
}

/**
 * @param {string} token
 * @param {AbortSignal} signal
 * @returns {Promise<Answer>}
 */
async function ask(token, signal) {
    const request = new AbortController();
    const cancel = () => request.abort();
    const timer = setTimeout(cancel, TIMEOUT_MS);
    signal.addEventListener("abort", cancel);
    const start = performance.now();
    try {
        const response = await fetch("console/others", {
            headers: { Authorization: `Bearer ${token}` },
            cache: "no-store",
            credentials: "omit",
            redirect: "error",
            signal: request.signal,
        });
        const ms = Math.round(performance.now() - start);
        const { others = null, users = [] } = response.ok ? await response.json().catch(() => ({})) : {};
        return { ms, others, users };
    } catch {
        return { ms: null, others: null, users: [] };
    } finally {
        clearTimeout(timer);
        signal.removeEventListener("abort", cancel);
    }
}
