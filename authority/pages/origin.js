// Whether the gateway sees this page where the browser has it. The filter opens consoles only to pages of the
// gateway's own origin, and a browser is not told of its refusal (403 `origin`).

/** @typedef {import("./reasons.js").End} End */

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
    const places = seen === null
        ? `Your browser has this page at ${own}, and the gateway cannot tell at which address.`
        : `Your browser has this page at ${own}, and the gateway at ${seen}.`;
    const detail = `${places} Tell your administrator: ${mend(own, seen)}, or the filter's allowed_origins has `
        + `to list ${own}. If it does, the ESXi host's console port may be closed to the gateway.`;
    return { code: "origin", detail };
}

/**
 * @param {string} own
 * @param {string | null} seen
 */
function mend(own, seen) {
    const [ownScheme, ownHost] = own.split("//");
    const [seenScheme, seenHost] = seen?.split("//") ?? ["", ""];
    const mends = [];
    if (ownHost !== seenHost) {
        mends.push("the load balancer before the gateway has to pass on the Host header as it is, with its port");
    }
    if (ownScheme !== seenScheme) {
        mends.push("the load balancer before the gateway has to send X-Forwarded-Proto, and Envoy to trust it "
            + "(xff_num_trusted_hops)");
    }
    return mends.join(", and ");
}
