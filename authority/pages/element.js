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

/**
 * Opens a dialog. Firefox before 98 and Safari before 15.4 have none. There it is a box over the page.
 *
 * @param {string} id
 */
export function showDialog(id) {
    const dialog = dialogOf(id);
    if (dialog.showModal) {
        dialog.showModal();
    } else {
        dialog.setAttribute("open", "");
    }
}

/**
 * Closes a dialog, if it is open; its listeners of `close` hear of it.
 *
 * @param {string} id
 */
export function closeDialog(id) {
    const dialog = dialogOf(id);
    if (dialog.close) {
        dialog.close();
    } else if (dialog.hasAttribute("open")) {
        dialog.removeAttribute("open");
        dialog.dispatchEvent(new Event("close"));
    }
}

/** @param {string} id */
function dialogOf(id) {
    return /** @type {HTMLElement & Partial<HTMLDialogElement>} */ (element(id));
}
