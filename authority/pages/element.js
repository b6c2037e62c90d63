// What console.html has.

/**
 * The element of this id.
 *
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @param {new () => T} [type]
 * @returns {T}
 */
export function element(id, type) {
    const found = document.getElementById(id);
    if (!(found instanceof (type ?? HTMLElement))) {
        throw new Error(`console.html has no such element: ${id}`);
    }
    return /** @type {T} */ (found);
}

/**
 * @param {string} id
 * @param {() => void} action
 */
export function onClick(id, action) {
    element(id).addEventListener("click", action);
}
