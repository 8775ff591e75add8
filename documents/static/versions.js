// the list of versions in the sidebar; without scripts it shows the version of the page
const list = document.getElementById("versions");
if (list && typeof VERSIONS !== "undefined") {
  const { version, page, top } = list.dataset;
  list.replaceChildren(
    ...VERSIONS.map((name) => new Option(name === VERSIONS[0] ? name : `${name} (older)`, name, false, name === version)),
  );
  list.addEventListener("change", async () => {
    // a page may not be in another version; a file:// address cannot be asked, so there it is the start page
    const wanted = `${top}${list.value}/${page}`;
    const there = await fetch(wanted, { method: "HEAD" }).then((answer) => answer.ok, () => false);
    location.href = there ? wanted : `${top}${list.value}/index.html`;
  });
}
