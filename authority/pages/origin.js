// Whether the gateway sees this page where the browser has it. The filter opens consoles only to pages of the
// gateway's own origin, and a browser is not told of its refusal (403 `origin`).

/**
 * @typedef {import("./reasons.js").End} End
 * @typedef {import("./reasons.js").Sentence} Sentence
 */

/**
 * @param {string | null | undefined} seen the gateway's own origin as /console/status tells it; null if what
 *     reached the gateway makes none
 * @returns {End | null} why the filter refuses this page, unless its `allowed_origins` has it, which the page
 *     cannot know
 */
export function originRefusal(seen) {
    const own = location.origin;
    if (seen === undefined || seen === own) {
        return null;
    }
    /** @type {Sentence} */
    const places = seen === null
        ? { key: "origin.not_seen", values: { own } }
        : { key: "origin.seen_elsewhere", values: { own, seen } };
    return { code: "origin", detail: "", sentences: [places, ...mends(own, seen), { key: "origin.allow", values: { own } }] };
}

/**
 * @param {string} own
 * @param {string | null} seen
 * @returns {Sentence[]}
 */
function mends(own, seen) {
    const [ownScheme, ownHost] = own.split("//");
    const [seenScheme, seenHost] = seen?.split("//") ?? ["", ""];
    return [
        ...ownHost === seenHost ? [] : [{ key: "origin.host", values: {} }],
        ...ownScheme === seenScheme ? [] : [{ key: "origin.scheme", values: {} }],
    ];
}
